// One image on the page: its picture, how it is going, what the model says, and why.
import { bars, element, percent, picture, thumbnail } from "./show.js";

const SIDE = 256; // pixels of a thumbnail, twice what it is shown with
const SHOWN = 5; // classes

export class Card {
  // `acts` are {explain(card), remove(card)}; the element is `this.element`.
  constructor(file, name, acts) {
    this.file = file;
    this.name = name;
    this.broken = 0; // times that the connection broke while it was sent
    this.thumb = element("div", "thumb empty");
    this.state = element("p", "state", "waiting");
    this.said = element("div", "", element("p", "file", name), this.state);
    this.whyButton = this.button("Why?", `Why? ${name}`, () => acts.explain(this));
    this.whyButton.hidden = true;
    this.whyButton.ariaExpanded = "false";
    this.buttons = element("p", "row", this.whyButton, this.button("Remove", `Remove ${name}`, () => acts.remove(this)));
    this.said.append(this.buttons);
    this.element = element("li", "card", element("div", "judged", this.thumb, this.said));
  }

  button(text, label, act) {
    const made = element("button", "small", text);
    made.type = "button";
    made.ariaLabel = label;
    made.addEventListener("click", act);
    return made;
  }

  async showPicture() {
    const canvas = await thumbnail(this.file, SIDE);
    if (canvas) {
      canvas.role = "img";
      canvas.ariaLabel = this.name;
      this.thumb.classList.remove("empty");
    }
    this.thumb.replaceChildren(canvas ?? element("span", "none", "no preview in this browser"));
  }

  is(words) {
    this.state.hidden = !words;
    this.state.className = "state";
    this.state.textContent = words;
  }

  failed(sentence) {
    this.has_failed = true;
    this.is(`✗ ${sentence}`);
    this.state.classList.add("bad");
  }

  // `said` is what the server says of the image, `facts` what it says of itself.
  done(said, facts) {
    this.said_of = said;
    this.is("");
    const parts = [element("p", "answer", element("b", "", said.predicted), ` ${percent(said.probability)}`)];
    if (said.looks_like_nothing_known) parts.push(strange(said, facts));
    if (said.not_sure) parts.push(unsure(facts));
    parts.push(bars(said.top.slice(0, SHOWN), `The likeliest classes of ${this.name}`));
    const left = said.top.length - SHOWN;
    if (left > 0) {
      const inside = bars(said.top.slice(SHOWN, SHOWN + 95), `Further classes of ${this.name}`);
      parts.push(element("details", "", element("summary", "quiet", `${left} further class${left > 1 ? "es" : ""}`), inside));
    }
    for (const part of parts) this.buttons.before(part);
    this.whyButton.hidden = !facts.explains;
  }

  // In a sentence, for whoever hears the page.
  get summary() {
    if (!this.said_of) return `${this.name}: ${this.state.textContent.replace("✗ ", "")}`;
    const { predicted, probability, not_sure: unsureOf, looks_like_nothing_known: isStrange } = this.said_of;
    const marks = `${isStrange ? ", looks like nothing I know" : ""}${unsureOf ? ", not sure" : ""}`;
    return `${this.name}: ${predicted}, ${percent(probability)}${marks}.`;
  }

  // What /explain answers, or a sentence why it does not.
  explained(found) {
    this.why?.remove();
    this.why = element("div", "why");
    if (typeof found === "string") this.why.append(element("p", "bad", found));
    else this.why.append(element("div", "", ...heatOf(found, this.name)), element("div", "", ...nearOf(found)));
    this.element.append(this.why);
    this.whyButton.ariaExpanded = "true";
  }

  // Closes what is open, or opens it again; whether there was something to do so with.
  toggle() {
    if (!this.why) return false;
    this.why.hidden = !this.why.hidden;
    this.whyButton.ariaExpanded = String(!this.why.hidden);
    return true;
  }
}

function mark(sign, title, words) {
  const name = element("b", "", title);
  name.dataset.sign = sign;
  return element("p", "mark note", name, ` ${words}`);
}

const unsure = (facts) => mark("?", "Not sure.", `No class reaches ${+(100 * facts.is_sure_from).toFixed(2)} %.`);

const strange = (said, facts) => mark(
  "◇", "Looks like nothing I know.",
  `Of images like those of the training at most ${+(100 * facts.strange_up_to).toFixed(1)} % look so unfamiliar. The classes may mean nothing here.`,
);

function heatOf(found, name) {
  const title = element("h3", "", `What speaks for ${found.class}`);
  const small = found.size < 150 ? "pixelated" : "";
  const seen = picture(found.seen, `${name}, the part that the network sees`, small);
  const frame = element("span", "seen", seen);
  const figure = element("figure", "", frame);
  const parts = [title, figure];
  if (found.heat) {
    const heat = picture(found.heat, "", "heat");
    frame.append(heat);
    const box = element("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => { heat.hidden = !box.checked; });
    parts.push(element("label", "toggle", box, `Show where (Grad-CAM): the redder, the more it speaks for ${found.class}; most of all ${found.strongest}`));
  } else {
    parts.push(element("p", "quiet", found.heat_missing));
  }
  figure.append(element("figcaption", "", `The part that the network sees, as ${found.size} × ${found.size} pixels.`));
  if (found.of_models > 1) parts.push(element("p", "quiet", `This is the first of ${found.of_models} models that judge together.`));
  return parts;
}

function nearOf(found) {
  const title = element("h3", "", "Nearest training images");
  if (!found.nearest?.length) return [title, element("p", "quiet", found.nearest_missing)];
  const list = element("ul", "near");
  for (const near of found.nearest) {
    const shown = near.picture ? picture(near.picture, "") : null;
    const parts = (near.file ?? "").split(/(?<=[/])/).flatMap((part) => [part, element("wbr")]); // lines end after a folder
    const file = element("span", "quiet", ...parts);
    const away = element("span", "quiet", `distance ${near.distance.toFixed(3)}`);
    list.append(element("li", "", shown, element("b", "", near.class), file, away));
  }
  const said = [title, list];
  if (found.pictures_missing) said.push(element("p", "quiet", found.pictures_missing));
  said.push(element("p", "quiet", "Distances are those of what the network makes of the images, from 0 (the same) to 2."));
  return said;
}
