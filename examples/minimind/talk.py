"""Ask a model that was downloaded as a Hugging Face directory, with transformers alone.

python talk.py DIRECTORY "Mia has 4 apples. Tom gives Mia 3 more. How many apples does Mia have?"
"""

import argparse

from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("question", nargs="+")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.directory, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(given.directory, local_files_only=True, dtype="float32")
    for question in given.question:
        chat = [{"role": "user", "content": question}]
        asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        answer = model.generate(**asked, max_new_tokens=80, do_sample=False)[0, asked["input_ids"].shape[1] :]
        print(tokenizer.decode(answer, skip_special_tokens=True))


if __name__ == "__main__":
    main()
