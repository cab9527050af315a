"use strict";
// Reading needs none of this: it moves the threshold of "none of these", and says which language is switched on.
for (const radio of document.querySelectorAll(".languages input")) {
  const tell = () => {
    if (radio.checked) document.documentElement.lang = radio.id === "in-zh" ? "zh-Hans" : "en";
  };
  radio.addEventListener("change", tell);
  tell();
}
for (const box of document.querySelectorAll("[data-slider]")) {
  const { steps } = JSON.parse(document.getElementById(box.dataset.slider).textContent);
  const range = box.querySelector("input");
  const percent = (share) => (100 * share).toFixed(1) + " %";
  const move = () => {
    const [kept, distance, right] = steps[range.value];
    const parts = { kept: percent(kept), distance: String(distance), right: percent(right) };
    for (const [name, text] of Object.entries(parts)) box.querySelector(`[data-part=${name}]`).textContent = text;
    range.setAttribute("aria-valuetext", parts.kept);
  };
  range.addEventListener("input", move);
  move();
  box.hidden = false;
}
