// The word-aligned view of one utterance: the reference's words are columns, each system is a row.
// The alignment itself comes from Python as an edit script, so that the page marks exactly the errors it counts.

/** The runs of an edit script: "3=1s2d" -> [[3, "="], [1, "s"], [2, "d"]]. */
function editRuns(script) {
  return Array.from(script.matchAll(/(\d+)([=sdi])/g), ([, count, kind]) => [Number(count), kind]);
}

/** What one system has for each reference word, and what it has before each of them and after the last. */
function alignedRow(referenceWords, heard, script) {
  const cells = [];
  const before = Array.from({length: referenceWords.length + 1}, () => []);
  let next = 0; // word of `heard`
  for (const [count, kind] of editRuns(script)) {
    for (let i = 0; i < count; i++) {
      if (kind === "i") before[cells.length].push(heard[next++]);
      else if (kind === "d") cells.push({text: "—", edit: "delete"});
      else cells.push({text: heard[next++], edit: kind === "=" ? "equal" : "substitute"});
    }
  }
  return {cells, before};
}

/**
 * Common columns for all systems: [{reference, cells}], one cell a system. Where any system has words between two
 * words of the reference, a column without a reference word holds them.
 */
function gridColumns(referenceWords, systems) {
  const rows = systems.map(({heard, script}) => alignedRow(referenceWords, heard, script));
  const columns = [];
  for (let i = 0; i <= referenceWords.length; i++) {
    if (rows.some((row) => row.before[i].length)) {
      const cells = rows.map(({before}) => ({text: before[i].join(" "), edit: before[i].length ? "insert" : "none"}));
      columns.push({reference: "", cells});
    }
    if (i < referenceWords.length) {
      columns.push({reference: referenceWords[i], cells: rows.map((row) => row.cells[i])});
    }
  }
  return columns;
}

const CELL_PADDING = 1.5; // characters

/** Cut the columns into lines no wider than `budget` characters, so that a long sentence wraps like text. */
function gridLines(columns, budget) {
  const lines = [];
  let width = Infinity; // so that the first column begins a line
  for (const column of columns) {
    const plus = (cell) => (cell.edit === "insert" ? 2 : 0);
    const widest = Math.max(column.reference.length, ...column.cells.map((cell) => cell.text.length + plus(cell)));
    if (width + widest + CELL_PADDING > budget) {
      lines.push([]);
      width = 0;
    }
    lines[lines.length - 1].push(column);
    width += widest + CELL_PADDING;
  }
  return lines;
}
