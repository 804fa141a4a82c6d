// The page: takes images, sends a few at a time, and says how it is going; the server is asked by `server.js`.
import { Card } from "./card.js";
import { element } from "./show.js";
import { Server } from "./server.js";
import { csvOf } from "./table.js";

const AT_ONCE = 2; // images that are with the server
const MOST = 500; // on the page
const TRIES = 3; // that an image is sent while the server is there and the connection breaks
const AGAIN = 2000; // milliseconds until a server that is away is asked again

const at = (id) => document.getElementById(id);
const server = new Server();
const cards = new Set();
const waiting = [];
let working = 0;
let held = "facts"; // why nothing is sent: "facts", "token", "away", "refused" or "full"; "" while it is
let busy = ""; // what is said while the server is full
let facts = null;

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const megabytes = (bytes) => `${+(bytes / 1e6).toFixed(1)} MB`;

// Asks what the server is, at the start and whenever it comes back.
async function meet() {
  held = "facts";
  const answer = await server.ask("facts");
  if (answer.state === "token") return wantToken();
  if (answer.state === "wrong") return isRefused(answer.sentence);
  if (answer.state !== "ok") return isAway();
  facts = answer.body;
  at("token").hidden = at("away").hidden = true;
  at("about").textContent = `Served: ${facts.model}. ${facts.said.join(" ")}`;
  at("classes").hidden = false;
  at("classes").firstElementChild.textContent = `The ${facts.classes.length} classes that it knows`;
  at("classes").lastElementChild.textContent = facts.classes.join(", ");
  at("limits").textContent = `Up to ${megabytes(facts.max_bytes)} and ${many(Math.round(facts.max_pixels / 1e6), "megapixel")} each. They are sent as they are, to this server alone.`;
  held = "";
  return go();
}

function wantToken() {
  const isFirst = !server.token;
  held = "token";
  at("away").hidden = true;
  at("token").hidden = false;
  at("token").firstElementChild.textContent = isFirst ? "This server wants a token. Whoever has started it knows it." : "The server does not take this token.";
  at("secret").focus();
  tell();
}

async function isAway() {
  held = "away";
  at("away").hidden = false;
  at("away").textContent = "The server does not answer. Images wait here until it does.";
  tell();
  await wait(AGAIN);
  return meet();
}

function isRefused(sentence) {
  held = "refused";
  at("away").hidden = false;
  at("away").textContent = sentence;
}

async function isFull(seconds) {
  if (held) return; // known already
  held = "full";
  busy = `The server is busy; trying again in ${seconds} s.`;
  await wait(seconds * 1000);
  if (held === "full") {
    held = "";
    go();
  }
}

// Sends what may be sent; `news` is what has just come of an image.
function go(news = "") {
  while (!held && working < AT_ONCE && waiting.length) send(waiting.shift());
  tell(news);
}

async function send(card) {
  working += 1;
  card.is("working …");
  const why = await whyNot(card.file);
  const answer = why ? { state: "wrong", sentence: why } : await server.ask(`predict?top=${facts.classes.length}`, card.file);
  working -= 1;
  go(cards.has(card) ? settle(card, answer) : "");
}

// Why a file need not be sent, in a sentence.
async function whyNot(file) {
  if (!file.size) return "This file is empty.";
  if (file.size > facts.max_bytes) return `This file has ${megabytes(file.size)}; the server takes up to ${megabytes(facts.max_bytes)}.`;
  const isThere = await file.slice(0, 1).arrayBuffer().then(() => true, () => false);
  return isThere ? "" : "It cannot be read: it is a folder, or the file is gone.";
}

// What comes of an image; gives it in a sentence, or "" while it waits.
function settle(card, answer) {
  if (answer.state === "ok" && !answer.body.predictions[0].error) card.done(answer.body.predictions[0], facts);
  else if (answer.state === "ok") card.failed(answer.body.predictions[0].error);
  else if (answer.state === "wrong") card.failed(answer.sentence);
  else if (answer.state === "away" && (card.broken += 1) === TRIES) card.failed("It could not be sent: the connection broke each time.");
  else {
    waiting.unshift(card);
    card.is(answer.state === "full" ? "waiting: the server is busy" : "waiting");
    if (answer.state === "full") isFull(answer.seconds);
    else if (answer.state === "token") wantToken();
    else if (held !== "away" && held !== "facts") isAway();
    return "";
  }
  return card.summary;
}

// How far it is, for eyes and ears; `news` comes first.
function tell(news = "") {
  at("results").hidden = !cards.size;
  const judged = [...cards].filter((card) => card.said_of).length;
  const failed = [...cards].filter((card) => card.has_failed).length;
  const left = cards.size - judged - failed;
  const parts = [`${judged} of ${many(cards.size, "image")} judged`];
  if (failed) parts.push(`${failed} cannot be used`);
  if (left) parts.push(`${left} to go`);
  at("status").textContent = `${news} ${parts.join(", ")}. ${held === "full" ? busy : ""}`.trim();
  at("csv").disabled = !judged;
}

let pictures = Promise.resolve(); // of thumbnails, one after another: a hundred large photos are not in memory at once

function take(files) {
  const taken = [...files].slice(0, MOST - cards.size);
  for (const file of taken) {
    const card = new Card(file, nameOf(file), { explain, remove });
    cards.add(card);
    at("list").append(card.element);
    waiting.push(card);
    pictures = pictures.then(() => (cards.has(card) ? card.showPicture() : undefined));
  }
  go();
  if (taken.length < files.length) tell(`The page holds ${MOST} images; the others were left out. For more there is resnet-tl predict.`);
}

// Its name, with a number where another image has it.
function nameOf(file) {
  const used = new Set([...cards].map((card) => card.name));
  const name = file.name || "image";
  for (let number = 1; ; number += 1) {
    const one = number === 1 ? name : `${name} (${number})`;
    if (!used.has(one)) return one;
  }
}

function remove(card) {
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  cards.delete(card);
  if (waiting.includes(card)) waiting.splice(waiting.indexOf(card), 1);
  card.element.remove();
  tell(`${card.name} was removed.`);
  (next?.querySelector(".row button:last-child") ?? at("pick")).focus();
}

async function explain(card) {
  if (card.whyButton.ariaDisabled === "true" || card.toggle()) return;
  card.whyButton.ariaDisabled = "true"; // a button that is really disabled would lose the focus
  let answer;
  do {
    card.is("asking why …");
    answer = await server.ask("explain", card.file);
    if (answer.state === "full") {
      card.is(`The server is busy; trying again in ${answer.seconds} s.`);
      await wait(answer.seconds * 1000);
    }
  } while (answer.state === "full" && cards.has(card));
  card.is("");
  card.whyButton.ariaDisabled = null;
  if (answer.state === "ok") {
    card.explained(answer.body);
    tell(`Why ${card.name} is called so stands below it.`);
  } else if (answer.state === "wrong") card.explained(answer.sentence);
  else card.is("The server did not answer; ask again when it does.");
  if (answer.state === "token") wantToken();
  if (answer.state === "away" && !held) isAway();
}

at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  server.token = at("secret").value.trim();
  at("secret").value = "";
  meet();
});

at("photograph").hidden = !navigator.maxTouchPoints; // a file field opens the camera of a phone alone
for (const [button, field] of [["pick", "files"], ["photograph", "camera"]]) {
  at(button).addEventListener("click", () => at(field).click());
  at(field).addEventListener("change", () => {
    take(at(field).files);
    at(field).value = ""; // so that the same file can be chosen again
  });
}

// Anywhere on the page, since a browser opens what is dropped beside the field.
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  took(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.target !== at("secret")) took(event.clipboardData.files);
});

function took(files) {
  if (files.length) take(files);
  else {
    at("results").hidden = false;
    at("status").textContent = "That was no image file. Save the image first, then choose it.";
  }
}

at("clear").addEventListener("click", () => {
  cards.clear();
  waiting.length = 0;
  at("list").replaceChildren();
  tell();
  at("pick").focus();
});

at("csv").addEventListener("click", () => {
  const done = [...cards].filter((card) => card.said_of);
  const results = done.map((card) => ({ id: card.name, ...card.said_of }));
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([csvOf(results, facts.classes)], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

meet();
