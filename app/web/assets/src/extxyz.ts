// Frames of an extended XYZ file as text: cut apart without reading more of each than its first two lines.

export interface XyzFrame {
  text: string;
  atoms: number;
  /** The nine numbers of the cell, row by row; null without one. */
  cell: number[] | null;
  energy: number | null;
}

/** Return the frames of a file of ASE's, in order. */
export function frames(text: string): XyzFrame[] {
  const found: XyzFrame[] = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length && lines[at]?.trim(); ) {
    const atoms = Number(lines[at]);
    const comment = lines[at + 1] ?? "";
    const rows = lines.slice(at + 2, at + 2 + atoms).map(plain);
    found.push({ text: [atoms, "", ...rows].join("\n"), atoms, cell: cellOf(comment), energy: energyOf(comment) });
    at += 2 + atoms;
  }
  return found;
}

/** Keep element and position of an atom's line: what else stands there is no velocity, as other readers think. */
function plain(line: string): string {
  return line.trim().split(/\s+/).slice(0, 4).join(" ");
}

function cellOf(comment: string): number[] | null {
  const match = /Lattice="([^"]*)"/.exec(comment);
  const numbers = match?.[1]?.trim().split(/\s+/).map(Number) ?? [];
  return numbers.length === 9 ? numbers : null;
}

function energyOf(comment: string): number | null {
  const match = /(?:^|\s)energy=(\S+)/.exec(comment);
  return match ? Number(match[1]) : null;
}
