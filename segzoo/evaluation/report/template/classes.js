// The class table: every column sorts; what is n/a stays last, and equal rows keep the classes' order.
const table = document.querySelector("#class-table");
const body = table.tBodies[0];
const rows = [...body.rows];

function valueOf(row, column) {
  const text = row.cells[column].dataset.value;
  return text === "" ? null : Number(text);
}

function sorted(column, sign) {
  return rows.toSorted((a, b) => {
    const [x, y] = [valueOf(a, column), valueOf(b, column)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  });
}

table.tHead.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  const heading = button.closest("th");
  const before = heading.getAttribute("aria-sort");
  const first = button.dataset.order ?? "descending"; // names start at the first class, scores at the best
  const order = !before ? first : before === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  body.replaceChildren(...sorted(heading.cellIndex, order === "ascending" ? 1 : -1));
});
