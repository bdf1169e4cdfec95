// A point that pointer and arrow keys move along a training curve, with its value in words.
const { panels } = JSON.parse(document.querySelector("#data").textContent);

for (const drawing of document.querySelectorAll("svg[data-panel]")) {
  const { points, texts } = panels[Number(drawing.dataset.panel)];
  const cursor = drawing.querySelector(".cursor");
  const readout = drawing.parentElement.querySelector("output");
  let at = points.length;

  const moveTo = (index) => {
    at = Math.min(points.length - 1, Math.max(0, index));
    cursor.setAttribute("cx", points[at][0]);
    cursor.setAttribute("cy", points[at][1]);
    readout.textContent = texts[at];
  };

  drawing.addEventListener("pointermove", (event) => {
    const { left, width } = drawing.getBoundingClientRect();
    const x = ((event.clientX - left) / width) * drawing.viewBox.baseVal.width;
    const distances = points.map(([pointX]) => Math.abs(pointX - x));
    moveTo(distances.indexOf(Math.min(...distances)));
  });

  drawing.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: points.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    moveTo(moves[event.key]);
  });
}
