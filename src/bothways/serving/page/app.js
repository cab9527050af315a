// The page: what is read at the top, what is said of it below.
import { Answers } from "./answers.js";
import { ask, keyWanted, setKey } from "./api.js";
import { batch, html, render, signal, useEffect, useRef, useState } from "./dom.js";
import { Evaluation } from "./evaluation.js";
import { Flow } from "./flow.js";
import { Game } from "./game.js";
import { Lines, openFile } from "./lines.js";
import * as state from "./state.js";
import { t } from "./state.js";
import { Undo, Why } from "./why.js";

const card = signal(null); // {name, content} of the model card that is open

function Page() {
  const { view, failure, models } = state;
  return html`<header>
      <h1>bothways</h1>
      <nav>${state.VIEWS.map((name) => html`<button key=${name} aria-current=${view.value === name ? "page" : undefined} onClick=${() => (view.value = name)}>${t(`view.${name}`)}</button>`)}</nav>
      <${Languages} />
    </header>
    <main>
      ${keyWanted.value && html`<${Key} />`}
      ${failure.value && !keyWanted.value && html`<p class="failure" role="alert">${failure.value}</p>`}
      ${models.value.length > 0 && html`
        ${view.value !== "game" && html`<${Chooser} />`}
        ${(view.value === "text" || view.value === "flow") && html`<${Given} />`}
        ${view.value === "text" && html`<${Said} />`}
        ${view.value === "lines" && html`<${Lines} />`}
        ${view.value === "evaluation" && html`<${Evaluation} />`}
        ${view.value === "game" && html`<${Game} />`}
        ${view.value === "flow" && html`<${Flow} />`}`}
    </main>
    <footer><a href="/docs">${t("docs")}</a> <span>${t("link")}</span></footer>
    ${card.value && html`<${Card} />`}`;
}

function Languages() {
  const { language } = state;
  return html`<div class="languages" role="group" aria-label=${t("language")}>
    ${[["en", "English"], ["zh", "中文"]].map(([code, name]) => html`<button key=${code} lang=${code} aria-pressed=${language.value === code} onClick=${() => (language.value = code)}>${name}</button>`)}
  </div>`;
}

function Key() {
  const [key, write] = useState("");
  const use = (event) => {
    event.preventDefault();
    setKey(key);
    state.load();
  };
  return html`<form class="key" onSubmit=${use}><p>${t("key")}</p><label>${t("key.name")} <input type="password" value=${key} onInput=${(event) => write(event.target.value)} /></label> <button disabled=${!key}>${t("key.use")}</button></form>`;
}

function Chooser() {
  const { models, first, second, view } = state;
  if (models.value.length < 2) return null;
  const names = models.value.map((each) => each.name);
  const select = (signal, choose, some, label) => html`<label>${label} <select value=${signal.value} onChange=${(event) => choose(event.target.value)}>${some.map((name) => html`<option key=${name} value=${name}>${name || t("nobody")}</option>`)}</select></label>`;
  return html`<p class="choices">${select(first, state.chooseFirst, names, t("model"))} ${view.value === "text" && select(second, (name) => (second.value = name), ["", ...names.filter((name) => name !== first.value)], t("compare"))}</p>`;
}

function Given() {
  const { text, pair, readsPairs, type } = state;
  const box = useRef(null);
  useEffect(() => void (matchMedia("(hover: hover)").matches && box.current.focus()), []);
  const area = (signal, name, more) => html`<textarea ...${more} rows=${readsPairs.value ? 2 : 3} value=${signal.value} dir="auto" aria-label=${t(name)} placeholder=${name === "text" ? t("type") : t("pair")} onInput=${(event) => type(signal, event.target.value)}></textarea>`;
  const clear = () => {
    batch(() => (type(text, ""), type(pair, "")));
    box.current.focus();
  };
  return html`<div class="given">${area(text, "text", { ref: box })}${readsPairs.value && area(pair, "pair")}
    ${text.value ? html`<button class="plain clear" onClick=${clear}>${t("clear")}</button>` : html`<p class="note">${t("hint")}</p>`}</div>`;
}

function Said() {
  const { shown, text } = state;
  const alone = shown.value.length === 1;
  return html`<${Undo} /><div class="columns" aria-live="polite">
    ${shown.value.map((each) => html`<article key=${each.name} class=${alone ? "alone" : ""}>
      <div><h2>${each.name}</h2><${Links} each=${each} /><${Answers} model=${each} /></div>
      ${text.value.trim() && html`<div><${Why} model=${each} /></div>`}
    </article>`)}
  </div>`;
}

function Links({ each }) {
  const place = `/models/${encodeURIComponent(each.name)}`;
  const open = async () => (card.value = { name: each.name, content: await ask(`${place}/card`).catch((error) => error.message) });
  return html`<p class="links">${each.card && html`<button class="plain" onClick=${open}>${t("card")}</button>`} ${each.report && state.linksToReports() && html`<a href=${`${place}/report`} target="_blank" rel="noopener">${t("report")}</a>`}</p>`;
}

function Card() {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const { name, content } = card.value;
  return html`<dialog ref=${dialog} aria-label=${`${t("card")}: ${name}`} onClose=${() => (card.value = null)}>
    <form method="dialog"><button>${t("close")}</button></form><pre>${content}</pre></dialog>`;
}

addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  openFile(event.dataTransfer.files[0]);
});
state.language.value = navigator.language.startsWith("zh") ? "zh" : "en";
state.follow();
state.load();
render(html`<${Page} />`, document.getElementById("app"));
