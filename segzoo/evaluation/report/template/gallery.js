// The gallery: thumbnails that can be filtered, and a viewer that wipes between two layers of one image.
const { classes, gallery } = JSON.parse(document.querySelector("#data").textContent);
const thumbs = document.querySelector("#thumbs");
const items = [...thumbs.children];
const viewer = document.querySelector("#viewer");
const stage = document.querySelector("#stage");
const classChooser = document.querySelector("#gallery-class");
const checked = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const chosenClass = () => (classChooser.value === "" ? null : Number(classChooser.value));

let current = null;

const buttonOf = (item) => item.querySelector("button");
const entryOf = (item) => gallery[Number(item.dataset.entry)];
const shownItems = () => [...thumbs.children].filter((item) => !item.hidden);

function select(item) {
  if (current) {
    buttonOf(current).removeAttribute("aria-current");
    buttonOf(current).tabIndex = -1;
  }
  current = item;
  viewer.hidden = !item;
  if (!item) return;
  buttonOf(item).setAttribute("aria-current", "true");
  buttonOf(item).tabIndex = 0;
  showImage();
}

function showImage() {
  stage.style.setProperty("--ratio", entryOf(current).ratio);
  showSide("left");
  showSide("right");
  showCaption();
}

function showSide(name) {
  const side = stage.querySelector(`.side.${name}`);
  const layer = checked(name);
  const { id, layers } = entryOf(current);
  const [photo, mask] = side.querySelectorAll("img");
  photo.src = current.querySelector("img").src;
  photo.alt = `${layer} of ${id}`;
  side.dataset.layer = layer;
  mask.hidden = layer === "image";
  if (layer !== "image") mask.src = layers[layer];
  document.querySelector(`#${name}-chip`).textContent = layer;
}

function showCaption() {
  const { id, group, miou, accuracy, iou, texts } = entryOf(current);
  document.querySelector("#viewer-title").textContent = `${id}: mIoU ${miou}, pixel accuracy ${accuracy} (${group})`;
  const present = classes.map((_, index) => index).filter((index) => iou[index] !== null);
  document.querySelector("#viewer-key").replaceChildren(...present.map((index) => {
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    const score = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.setProperty("--class", classes[index].color);
    score.className = "number";
    score.textContent = texts[index];
    item.append(swatch, `${classes[index].name} `, score);
    item.classList.toggle("chosen", index === chosenClass());
    return item;
  }));
}

function filter() {
  const [group, index] = [checked("group"), chosenClass()];
  const order = index === null ? items : items.toSorted((a, b) => entryOf(a).iou[index] - entryOf(b).iou[index]);
  thumbs.replaceChildren(...order);
  for (const item of items) {
    const entry = entryOf(item);
    item.hidden = (group !== "" && entry.group !== group) || (index !== null && entry.iou[index] === null);
    item.querySelector(".score").textContent = index === null ? entry.miou : entry.texts[index];
  }
  const shown = shownItems();
  const which = index === null ? "" : ` with ${classes[index].name}, lowest IoU first`;
  document.querySelector("#gallery-count").textContent = `${shown.length} ${shown.length === 1 ? "image" : "images"}${which}`;
  thumbs.scrollTo(0, 0);
  select(shown[0] ?? null);
}

function wipe() {
  const { value } = document.querySelector("#wipe");
  stage.style.setProperty("--wipe", `${value}%`);
}

function colorStrength() {
  stage.style.setProperty("--strength", document.querySelector("#strength").value / 100);
}

thumbs.addEventListener("click", ({ target }) => {
  const item = target.closest("li");
  if (item) select(item);
});

thumbs.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const next = shownItems()[shownItems().indexOf(current) + step];
  if (!next) return;
  select(next);
  buttonOf(next).focus();
});

for (const [index, option] of [...classChooser.options].slice(1).entries()) {
  const having = gallery.filter(({ iou }) => iou[index] !== null).length;
  option.textContent += ` (${having})`;
  option.disabled = having === 0;
}

document.querySelector("#gallery-group").addEventListener("change", filter);
classChooser.addEventListener("change", filter);
document.querySelector("#left-layer").addEventListener("change", () => showSide("left"));
document.querySelector("#right-layer").addEventListener("change", () => showSide("right"));
document.querySelector("#wipe").addEventListener("input", wipe);
document.querySelector("#strength").addEventListener("input", colorStrength);
wipe();
colorStrength();
filter();
