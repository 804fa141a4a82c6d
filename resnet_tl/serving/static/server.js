// Asks the server; what can come of it are five states, and nothing of the network shows beyond this file.
const KEY = "resnet-tl token";
const PATIENCE = 120_000; // milliseconds: of a large photo on a slow line

export class Server {
  // What `fetch` or the server's own words come to:
  // {state: "ok", body} | {state: "wrong", sentence} | {state: "full", seconds} | {state: "token"} | {state: "away"}
  async ask(address, content = undefined) {
    const headers = {};
    if (/[^ -~]/.test(this.token)) return { state: "token" }; // no header holds it
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (content) headers["Content-Type"] = "application/octet-stream";
    const asked = { method: content ? "POST" : "GET", headers, body: content, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) };
    try {
      const answer = await fetch(address, asked);
      if (answer.status === 401) return { state: "token" };
      if (answer.status === 503) return { state: "full", seconds: secondsOf(answer) };
      const body = await answer.json();
      return answer.ok ? { state: "ok", body } : { state: "wrong", sentence: sentenceOf(body, answer.status) };
    } catch {
      return { state: "away" };
    }
  }

  // For this tab alone; a browser that keeps nothing asks for it again.
  get token() {
    try { return this.own ?? sessionStorage.getItem(KEY) ?? ""; } catch { return ""; }
  }

  set token(value) {
    this.own = value;
    try { sessionStorage.setItem(KEY, value); } catch { /* kept in `own` alone */ }
  }
}

const secondsOf = (answer) => Math.min(60, Math.max(1, Number(answer.headers.get("Retry-After")) || 1));

const sentenceOf = (body, status) => (typeof body.error === "string" ? body.error : `The server answers with status ${status}.`);
