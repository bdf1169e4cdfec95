// The confusion matrix on a canvas, with a cursor that pointer and arrow keys move, and one class at a time as lists.
const { classes, matrix, unit } = JSON.parse(document.querySelector("#data").textContent);
const count = classes.length;
const rowSums = matrix.map((row) => row.reduce((sum, value) => sum + value, 0));
const columnSums = matrix.map((_, column) => matrix.reduce((sum, row) => sum + row[column], 0));

const box = document.querySelector("#matrix");
const canvas = document.querySelector("#matrix-canvas");
const readout = document.querySelector("#matrix-readout");
const chooser = document.querySelector("#matrix-class");
const large = document.querySelector("#matrix-names");
const [rowNames, columnNames] = [box.querySelector(".rows"), box.querySelector(".columns")];

const NAMED = 12; // smallest cell beside which a name can be read
const NUMBERED = 30; // smallest cell that holds a number
const LARGEST = 46;
const MOST_CANVAS = 4096; // pixels a side; phones refuse more
const LISTED = 8;

let cell = 0;
let cursor = null;

// Exact, as the counts are whole: no rounding of a rounded share.
function percent(part, whole) {
  if (!whole) return "n/a";
  const [scaled, total] = [BigInt(part) * 1000n, BigInt(whole)];
  let tenths = scaled / total;
  const rest = 2n * (scaled % total);
  if (rest > total || (rest === total && tenths % 2n === 1n)) tenths += 1n;
  return `${tenths / 10n}.${tenths % 10n} %`;
}

const counted = (number) => number.toLocaleString("en-US");

function nameElements() {
  return classes.map(({ name, color }) => {
    const swatch = element("i", "");
    swatch.style.setProperty("--class", color);
    const label = element("span", "", swatch, name);
    label.title = name;
    return label;
  });
}

function nameSize(cellSize) {
  return Math.min(13.5, Math.max(10, cellSize * 0.5));
}

// Room for the longest name and its swatch, but not for a sentence.
function roomForNames(size) {
  const context = canvas.getContext("2d");
  context.font = `700 ${size}px system-ui, sans-serif`;
  return Math.min(170, 0.4 * box.parentElement.clientWidth, Math.max(...classes.map(({ name }) => context.measureText(name).width)) + 1.3 * size + 8);
}

function measure() {
  const [room, height] = [box.parentElement.clientWidth, 0.9 * innerHeight];
  const names = roomForNames(nameSize(room / count / 1.3));
  const besideNames = Math.floor((room - names) / count);
  const fits = besideNames >= NAMED;
  document.querySelector("#matrix-names-label").hidden = fits;
  if (fits) cell = Math.min(LARGEST, besideNames, Math.max(NUMBERED, Math.floor((height - names) / count)));
  else cell = large.checked ? NAMED + 3 : (Math.min(room, height) - 2) / count;
  box.classList.toggle("named", fits || large.checked);
  box.style.setProperty("--name-size", `${nameSize(cell)}px`);
  box.style.setProperty("--names", `${Math.ceil(roomForNames(nameSize(cell)))}px`);
  box.style.setProperty("--cell", `${cell}px`);
}

function blended(share, full, paper) {
  const strength = Math.sqrt(share);
  return full.map((channel, i) => Math.round(channel * strength + paper[i] * (1 - strength)));
}

function legibleOn(color) {
  const [r, g, b] = color.map((channel) => {
    const c = channel / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  const channels = (name) => style.getPropertyValue(name).match(/[\d.]+/g).slice(0, 3).map(Number);
  return { right: channels("--right"), wrong: channels("--wrong"), paper: channels("--surface"), ink: style.getPropertyValue("--ink") };
}

function drawCell(context, row, column, palette) {
  if (!rowSums[row]) return; // n/a: the background, in which zero is not drawn
  const share = matrix[row][column] / rowSums[row];
  const chosen = chooser.value === "" ? null : Number(chooser.value);
  const dimmed = chosen !== null && chosen !== row && chosen !== column;
  context.globalAlpha = dimmed ? 0.15 : 1;
  const color = blended(share, row === column ? palette.right : palette.wrong, palette.paper);
  context.fillStyle = `rgb(${color})`;
  const gap = cell >= 6 ? 1 : 0;
  context.fillRect(column * cell, row * cell, cell - gap, cell - gap);
  const text = Math.round(100 * share);
  if (cell >= NUMBERED && text > 0 && !dimmed) {
    context.fillStyle = legibleOn(color);
    context.fillText(text, (column + 0.5) * cell, (row + 0.5) * cell);
  }
}

function draw() {
  const side = Math.ceil(cell * count);
  const ratio = Math.min(devicePixelRatio, MOST_CANVAS / side);
  canvas.width = canvas.height = Math.round(side * ratio);
  canvas.style.width = canvas.style.height = `${side}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  const palette = colors();
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < count; column++) drawCell(context, row, column, palette);
  }
  if (cursor) {
    context.globalAlpha = 1;
    context.strokeStyle = palette.ink;
    context.lineWidth = 2;
    const edge = Math.max(cell, 6);
    context.strokeRect(cursor.column * cell - 1, cursor.row * cell - 1, edge + 1, edge + 1);
  }
}

function layOut() {
  measure();
  draw();
}

function pointAt(row, column) {
  cursor = { row, column };
  const [truth, predicted] = [classes[row].name, classes[column].name];
  const [part, whole] = [matrix[row][column], rowSums[row]];
  const what = row === column ? "found" : `taken for ${predicted}`;
  readout.textContent = whole
    ? `${truth} ${what}: ${percent(part, whole)}, ${counted(part)} of ${counted(whole)} ${unit}`
    : `${truth}: n/a, no true ${unit}; ${predicted} is predicted elsewhere`;
  for (const [names, index] of [[rowNames, row], [columnNames, column]]) {
    names.querySelector(".at")?.classList.remove("at");
    names.children[index].classList.add("at");
  }
  draw();
}

function scrollToCursor() {
  const [left, top] = [cursor.column * cell, cursor.row * cell];
  const [roomX, roomY] = [box.clientWidth - rowNames.offsetWidth, box.clientHeight - columnNames.offsetHeight];
  if (left < box.scrollLeft) box.scrollLeft = left;
  if (left + cell > box.scrollLeft + roomX) box.scrollLeft = left + cell - roomX;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + cell > box.scrollTop + roomY) box.scrollTop = top + cell - roomY;
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -count], End: [0, count] };

canvas.addEventListener("keydown", (event) => {
  const move = MOVES[event.key];
  if (!move) return;
  event.preventDefault();
  const inside = (index) => Math.min(count - 1, Math.max(0, index));
  const at = cursor ?? { row: 0, column: 0 };
  pointAt(...(cursor ? [inside(at.row + move[0]), inside(at.column + move[1])] : [0, 0]));
  scrollToCursor();
});

function follow(event) {
  const [column, row] = [event.offsetX, event.offsetY].map((offset) => Math.floor(offset / cell));
  if (row < 0 || column < 0 || row >= count || column >= count) return;
  if (cursor?.row !== row || cursor?.column !== column) pointAt(row, column);
}
canvas.addEventListener("pointermove", follow);
canvas.addEventListener("pointerdown", follow);

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...content);
  return made;
}

function classLabel(index) {
  const swatch = element("span", "swatch");
  swatch.style.setProperty("--class", classes[index].color);
  return [swatch, classes[index].name];
}

// The largest counts with their labels; equal ones stay in the classes' order.
function listed(entries, whole, list) {
  const found = entries.filter(({ value }) => value > 0).toSorted((a, b) => b.value - a.value);
  list.replaceChildren(...found.slice(0, LISTED).map(({ value, label }) => {
    const bar = element("span", "bar");
    bar.style.setProperty("--share", value / whole);
    const text = element("span", "number", percent(value, whole));
    text.title = `${counted(value)} ${unit}`;
    return element("li", "", element("span", "", ...label), bar, text);
  }));
  if (found.length > LISTED) list.append(element("li", "more", `and ${counted(found.length - LISTED)} more`));
  if (!found.length) list.append(element("li", "more", `no ${unit}`));
}

function listLosses() {
  const entries = matrix.flatMap((row, truth) =>
    row.map((value, predicted) => ({ value: truth === predicted ? 0 : value, truth, predicted })));
  const largest = entries.toSorted((a, b) => b.value - a.value).slice(0, LISTED);
  const wrong = entries.reduce((sum, { value }) => sum + value, 0);
  const label = ({ truth, predicted }) => [...classLabel(truth), " taken for ", ...classLabel(predicted)];
  listed(largest.map((entry) => ({ value: entry.value, label: label(entry) })), wrong, document.querySelector("#worst-list"));
}

function focusOn() {
  const chosen = chooser.value;
  document.querySelector("#matrix-focus").hidden = chosen === "";
  document.querySelector("#matrix-worst").hidden = chosen !== "";
  if (chosen !== "") {
    const index = Number(chosen);
    const { name } = classes[index];
    document.querySelector("#focus-row-title").textContent = `True ${name} was predicted as`;
    document.querySelector("#focus-column-title").textContent = `Predicted ${name} is in truth`;
    const labelled = (counts) => counts.map((value, other) => ({ value, label: classLabel(other) }));
    listed(labelled(matrix[index]), rowSums[index], document.querySelector("#focus-row"));
    listed(labelled(matrix.map((row) => row[index])), columnSums[index], document.querySelector("#focus-column"));
  }
  draw();
}

listLosses();
rowNames.replaceChildren(...nameElements());
columnNames.replaceChildren(...nameElements());
chooser.addEventListener("change", focusOn);
large.addEventListener("change", layOut);
document.addEventListener("themechange", draw);
new ResizeObserver(layOut).observe(box.parentElement);
