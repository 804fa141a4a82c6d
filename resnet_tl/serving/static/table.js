// The results as a CSV file, of the columns that `resnet-tl predict` writes.

// A name that a spreadsheet would take for a formula begins with ', as in all files of resnet-tl.
const cell = (text) => {
  const safe = /^'*[=+\-@＝＋－＠]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

// `results` are {id, predicted, familiarity, top: [{class, probability}]}; classes are in the order of the model.
export function csvOf(results, classes) {
  const rows = [["id", "predicted", "familiarity", ...classes.map((name) => `prob_${name}`)].map(cell)];
  for (const { id, predicted, familiarity, top } of results) {
    const shares = new Map(top.map((one) => [one.class, one.probability]));
    rows.push([cell(id), cell(predicted), familiarity ?? "", ...classes.map((name) => shares.get(name) ?? "")]);
  }
  return rows.map((row) => `${row.join(",")}\n`).join("");
}
