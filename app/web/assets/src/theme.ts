// Sets the remembered theme before the first paint. A classic script: modules run too late.

(() => {
  let theme: string | null = null;
  try {
    theme = localStorage.getItem("cairn-theme");
  } catch {
    // Storage is switched off: follow the system.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset["theme"] = theme;
})();
