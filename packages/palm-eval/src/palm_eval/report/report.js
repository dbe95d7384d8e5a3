/* The moving parts of a report. All values come from the document in #palm-data and are
   written as text, never as markup: names and answers may hold anything. */
"use strict";

const data = JSON.parse(document.getElementById("palm-data").textContent);
const d = data.objectives.length;
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

const state = { weights: Array(d).fill(1 / d), prompt: 0, served: 0 };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/* The first of the largest values, as in palm route. */
function best(rows, weights) {
  let place = 0;
  let value = -Infinity;
  rows.forEach((row, i) => {
    const here = dot(row, weights);
    if (here > value) [place, value] = [i, here];
  });
  return { place, value };
}

function number(value) {
  if (value === 0) return "0";
  return Number(value.toPrecision(4)).toString().replace("-", "−");
}

function percent(share) {
  const value = 100 * share;
  if (value < 1e-9) return "0\u00a0%";
  if (value < 0.01) return "less than 0.01\u00a0%";
  return `${Number(value.toPrecision(3))}\u00a0%`;
}

/* How far `value` is below `opt`: a share where opt is positive, else an amount. */
function below(value, opt) {
  const loss = Math.max(0, opt - value);
  return opt > 0 ? percent(loss / opt) : number(loss < 1e-12 ? 0 : loss);
}

/* Shares in thousandths that add up to one, the nearest to `weights`. */
function thousandths(weights) {
  const scaled = weights.map((w) => 1000 * w);
  const whole = scaled.map(Math.floor);
  let left = 1000 - whole.reduce((a, b) => a + b, 0);
  const order = scaled.map((_, i) => i).sort((a, b) => scaled[b] - whole[b] - (scaled[a] - whole[a]));
  for (const i of order) if (left-- > 0) whole[i] += 1;
  return whole;
}

const sharesText = (weights) =>
  data.objectives.map((name, i) => `${name} ${number(thousandths(weights)[i] / 10)}\u00a0%`).join(", ");

/* ---- moving the weights -------------------------------------------------------------- */

function setWeights(weights) {
  const sum = weights.reduce((a, w) => a + Math.max(0, w), 0);
  state.weights = sum > 0 ? weights.map((w) => Math.max(0, w) / sum) : Array(d).fill(1 / d);
  show();
}

/* One objective gets `share`; the others keep their proportions. */
function setOne(index, share) {
  const rest = 1 - state.weights[index];
  setWeights(
    state.weights.map((w, i) => {
      if (i === index) return share;
      return rest > 1e-12 ? (w * (1 - share)) / rest : (1 - share) / (d - 1);
    }),
  );
}

function makeSliders() {
  const box = byId("sliders");
  /* For two objectives one slider says all; it stands below the bar. */
  const shown = d === 2 ? [0] : data.objectives.map((_, i) => i);
  for (const i of shown) {
    const range = element("input", { type: "range", id: `weight-${i}`, min: 0, max: 1000, step: 5 });
    range.addEventListener("input", () => setOne(i, Number(range.value) / 1000));
    const label = element("label", { for: `weight-${i}` });
    if (d === 2) {
      label.append(`Weight of ${data.objectives[0]}`);
      label.className = "unseen";
      const ends = element("div", { class: "ends", "aria-hidden": "true" });
      ends.append(element("span", {}, `only ${data.objectives[1]}`), element("span", {}, `only ${data.objectives[0]}`));
      box.append(label, range, ends);
    } else {
      label.append(data.objectives[i]);
      box.append(element("div", { class: "slider" }, label, range, element("output", { id: `share-${i}`, for: `weight-${i}` })));
    }
  }
}

function showSliders() {
  const shares = thousandths(state.weights);
  for (let i = 0; i < d; i += 1) {
    const range = byId(`weight-${i}`);
    if (!range) continue;
    range.value = shares[i];
    range.setAttribute("aria-valuetext", sharesText(state.weights));
    if (d > 2) byId(`share-${i}`).textContent = `${number(shares[i] / 10)}\u00a0%`;
  }
}

/* ---- two objectives: a bar, three: a triangle ------------------------------------------- */

function numberOn(box, policy) {
  const style = `background:${policy.colour};color:${policy.ink}`;
  box.append(element("span", { class: "chip", style, "aria-hidden": "true" }, String(policy.number)));
}

function makeBar() {
  const bar = byId("bar");
  const parts = data.policies.filter((policy) => policy.cell);
  parts.sort((a, b) => a.cell[0] - b.cell[0]);
  for (const policy of parts) {
    const [low, high] = policy.cell;
    const style = `left:${100 * low}%;width:${100 * (high - low)}%;background:${policy.colour};color:${policy.ink}`;
    bar.append(element("span", { class: "part", style }, high - low > 0.04 ? String(policy.number) : ""));
  }
  bar.append(element("span", { class: "needle", id: "needle" }));
  bar.addEventListener("pointerdown", (event) => {
    bar.setPointerCapture(event.pointerId);
    moveBar(event);
  });
  bar.addEventListener("pointermove", (event) => event.buttons && moveBar(event));
}

function moveBar(event) {
  const box = byId("bar").getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  setWeights([share, 1 - share]);
}

/* Corners of the triangle in its own units: objective 1, 2, 3. */
const CORNERS = [[0, 86.6], [100, 86.6], [50, 0]];
const place = (w) => [0, 1].map((axis) => dot(w, CORNERS.map((corner) => corner[axis])));

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function makeTriangle() {
  const svg = byId("triangle");
  for (const policy of data.policies.filter((one) => one.cell)) {
    const corners = policy.cell.map((w) => place(w).map((x) => x.toFixed(3)).join(",")).join(" ");
    svg.append(drawn("polygon", { points: corners, fill: policy.colour, class: "cell" }));
  }
  for (const policy of data.policies.filter((one) => one.centre)) {
    const [x, y] = place(policy.centre);
    const text = drawn("text", { x, y, class: "cell-number", fill: policy.ink });
    text.textContent = policy.number;
    svg.append(text);
  }
  svg.append(drawn("circle", { r: 2.6, id: "point" }));
  svg.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    svg.focus();
    svg.setPointerCapture(event.pointerId);
    moveTriangle(event);
  });
  svg.addEventListener("pointermove", (event) => event.buttons && moveTriangle(event));
  svg.addEventListener("keydown", keyTriangle);
}

function moveTriangle(event) {
  const svg = byId("triangle");
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const top = Math.max(0, 1 - at.y / 86.6);
  const second = (at.x - 50 * top) / 100;
  const first = 1 - top - second;
  setWeights([first, second, top].map((w) => Math.min(1, Math.max(0, w))));
}

const STEPS = { ArrowLeft: [1, -1, 0], ArrowRight: [-1, 1, 0], ArrowUp: [-0.5, -0.5, 1], ArrowDown: [0.5, 0.5, -1] };

function keyTriangle(event) {
  const step = STEPS[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const size = event.shiftKey ? 0.1 : 0.02;
  setWeights(state.weights.map((w, i) => w + size * step[i]));
}

/* ---- who serves, and how well ------------------------------------------------------------ */

function show() {
  const weights = state.weights;
  const rows = data.policies.map((policy) => policy.values);
  const own = best(rows, weights);
  const found = data.found ? best(data.found, weights) : null;
  const opt = found ? Math.max(found.value, own.value) : own.value;
  state.served = own.place;
  const policy = data.policies[own.place];

  showSliders();
  if (d === 2) byId("needle").style.left = `${100 * weights[0]}%`;
  if (d === 3) {
    const [x, y] = place(weights);
    byId("point").setAttribute("cx", x);
    byId("point").setAttribute("cy", y);
    byId("triangle").setAttribute("aria-label", `Triangle of preferences, at ${sharesText(weights)}`);
  }
  byId("weights").textContent = sharesText(weights);
  const served = byId("served");
  served.replaceChildren();
  numberOn(served, policy);
  served.append(element("span", { class: "unseen" }, `policy ${policy.number}, `), element("b", {}, policy.id));
  byId("rewards").replaceChildren(...data.objectives.map((name, i) => reward(name, policy.cells[i])));
  byId("served-box").style.setProperty("--accent", policy.colour);
  byId("distance").textContent = found
    ? `${below(own.value, opt)} below the best of the ${data.candidates} ${data.selected ? "given" : "policies found"}, for this weight vector.`
    : "The others that it was chosen from are not in this portfolio, so the distance to the best of them is not known for one weight vector.";
  announce(`Policy ${policy.number}, ${policy.id}, serves ${sharesText(weights)}.`);

  data.policies.forEach((one, i) => {
    const row = byId(`policy-${i}`);
    const value = dot(one.values, weights);
    row.classList.toggle("serves", i === own.place);
    byId(`mark-${i}`).textContent = i === own.place ? "serves" : "";
    byId(`value-${i}`).textContent = number(value);
    byId(`below-${i}`).textContent = below(value, opt);
  });
  const route = byId("route");
  if (route) {
    const shares = thousandths(weights);
    route.textContent = `${data.route} --weights ${data.objectives.map((name, i) => `${name}=${shares[i] / 1000}`).join(",")}`;
  }
  showAnswers();
}

function reward(name, cell) {
  const meter = element("span", { class: "meter", "aria-hidden": "true" }, element("span", { style: `width:${cell.width}%` }));
  const value = cell.error ? `${cell.value} ± ${cell.error}` : cell.value;
  return element("div", {}, element("dt", {}, name), element("dd", {}, value), meter);
}

/* A screen reader hears where the weights came to rest, not every step of the way. */
let waiting = 0;
function announce(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (byId("announced").textContent !== text) byId("announced").textContent = text;
  }, 400);
}

/* ---- answers --------------------------------------------------------------------------- */

function showAnswers() {
  if (!data.prompts.length) return;
  const prompt = data.prompts[state.prompt];
  byId("prompt-choice").value = String(state.prompt);
  byId("prompt-number").textContent = `Prompt ${state.prompt + 1} of ${data.prompts.length}`;
  byId("prompt-before").disabled = state.prompt === 0;
  byId("prompt-after").disabled = state.prompt === data.prompts.length - 1;
  const asked = byId("prompt");
  asked.replaceChildren(...turns(prompt.turns));
  const order = data.policies.map((_, i) => i).sort((a, b) => (b === state.served) - (a === state.served) || a - b);
  byId("cards").replaceChildren(...order.map((i) => card(i, prompt)));
}

function turns(list) {
  return list.map((turn) => {
    const box = element("div", { class: "turn" });
    if (list.length > 1) box.append(element("b", { class: "role" }, turn.role));
    box.append(element("span", { class: "said" }, turn.text));
    return box;
  });
}

function card(i, prompt) {
  const policy = data.policies[i];
  const mine = i === state.served;
  const box = element("article", { class: mine ? "card serves" : "card", style: `--accent:${policy.colour}` });
  const head = element("h3", {});
  numberOn(head, policy);
  head.append(element("span", { class: "name" }, policy.id));
  if (mine) head.append(element("span", { class: "tag" }, "serves you"));
  box.append(head);
  const answers = prompt.answers[i];
  if (answers === null) {
    box.append(element("p", { class: "quiet" }, "No answer was kept."));
    return box;
  }
  const rewards = prompt.rewards[i];
  if (rewards) {
    const list = element("dl", { class: "rewards" });
    rewards.forEach((value, k) => list.append(element("div", {}, element("dt", {}, data.objectives[k]), element("dd", {}, number(value)))));
    box.append(list);
  }
  const twin = data.policies.findIndex((_, j) => j < i && JSON.stringify(prompt.answers[j]) === JSON.stringify(answers));
  if (twin >= 0) {
    box.append(element("p", { class: "quiet" }, `The same answer as policy ${data.policies[twin].number}:`));
  }
  const label = `Answer of policy ${policy.number}`;
  box.append(said(answers[0], label));
  if (answers.length > 1) {
    const more = element("details", {}, element("summary", {}, `${answers.length - 1} more`));
    answers.slice(1).forEach((text, k) => more.append(said(text, `${label}, number ${k + 2}`)));
    box.append(more);
  }
  return box;
}

function said(text, label) {
  if (!text) return element("p", { class: "quiet" }, "(empty)");
  /* It scrolls, so it must be reachable by keyboard, and then needs a name. */
  return element("div", { class: "answer", tabindex: "0", role: "region", "aria-label": label }, text);
}

function makeAnswers() {
  if (!data.prompts.length) return;
  const choice = byId("prompt-choice");
  data.prompts.forEach((prompt, i) => choice.append(element("option", { value: i }, `${i + 1}. ${prompt.label}`)));
  const go = (i) => {
    state.prompt = Math.min(data.prompts.length - 1, Math.max(0, i));
    showAnswers();
  };
  choice.addEventListener("change", () => go(Number(choice.value)));
  byId("prompt-before").addEventListener("click", () => go(state.prompt - 1));
  byId("prompt-after").addEventListener("click", () => go(state.prompt + 1));
  state.prompt = Math.max(0, data.prompts.findIndex((prompt) => prompt.differ));
}

/* ---- the rest ---------------------------------------------------------------------------- */

async function copy(button) {
  const source = byId(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source); /* no clipboard here: selected, to copy by hand */
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

makeSliders();
if (d === 2) makeBar();
if (d === 3) makeTriangle();
makeAnswers();
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copy(button));
}
for (const button of document.querySelectorAll("[data-weights]")) {
  button.addEventListener("click", () => setWeights(JSON.parse(button.dataset.weights)));
}
show();
