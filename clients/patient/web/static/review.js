// The consent screen: the browser reads the signed request itself, sees that the screen says the same, and signs that.

import { errand, offer, onClick, post, said, say } from "/static/errand.js";
import { Differs, shortCode } from "/static/check.js";
import { keepGrant } from "/static/keys.js";
import { ABSENT, sameAsSigned } from "/static/screen.js";
import { unbase64 } from "/static/wire.js";

const at = (name) => document.getElementById(name);
const screen = at("screen");
const bytes = unbase64(screen.dataset.signed);
const schemas = JSON.parse(screen.dataset.schemas);
const rows = [...document.querySelectorAll("[data-unit]")];

/** The screen shows what the bytes ask for, and the code that the cashier's screen shows too. */
async function matches() {
  if (at("short-code").textContent !== await shortCode(bytes)) throw new Differs("short code");
  const parties = { sender: at("sender").dataset.id, recipient: at("recipient").dataset.id };
  return sameAsSigned(screen, bytes, { ...parties, notice: at("notice").textContent });
}

/** What she chose: where nothing is ticked, what was asked; where something is, that. */
function choice(asked) {
  const now = Math.floor(Date.now() / 1000);
  const units = rows.map((row) => ({
    schema: row.dataset.schema, index: Number(row.dataset.index), name: row.dataset.unit,
    rank: Number(row.querySelector("input:checked")?.value ?? row.dataset.rank), asked: Number(row.dataset.rank),
  }));
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`)?.value;
  const shorter = (name, until) => (chosen(name) ? Math.min(until, now + Number(chosen(name))) : until);
  const cap = at("cap").value.trim();
  if (cap && !/^\d{1,10}(\.\d{1,2})?$/.test(cap)) { at("cap").focus(); throw new Differs("cap"); }
  return {
    units, expiry: shorter("expiry", asked.expiry), data_erase_at: shorter("erase", asked.data_erase_at),
    cap: cap ? Math.round(Number(cap) * 100) : asked.cap,
  };
}

// The row says at once what the recipient will see after a change.
for (const row of rows) {
  row.addEventListener("change", () => {
    const picked = row.querySelector("input:checked");
    row.querySelector(".value").textContent = picked.dataset.value;
    row.querySelector(".level").textContent = picked.dataset.level;
    row.classList.toggle("less", Number(picked.value) !== Number(row.dataset.rank));
    row.classList.toggle("gone", Number(picked.value) === ABSENT);
  });
}

onClick(at("agree"), async () => {
  const { asked, key } = await matches();
  const chosen = choice(asked);
  const levels = Object.fromEntries(chosen.units.filter((one) => one.rank !== one.asked)
    .map((one) => [`${schemas[one.schema]}.${one.name}`, one.rank]));
  const body = { request: screen.dataset.request, choice: { levels, expiry: chosen.expiry, data_erase_at: chosen.data_erase_at, cap: chosen.cap } };
  const found = await errand("/api/grant", body, { kind: "grant", asked, bytes, choice: chosen });
  await keepGrant({ hash: found.grant, public: key.public, hospital: key.hospital, direct_pay: asked.mode === 2 });
  offer(at("consent-file"), "consent.json", found.consent);
  at("to-grant").href = `/grants/${found.grant}`;
  finish(at("agreed"));
});

onClick(at("refuse"), async () => {
  await post("/api/refuse", { request: screen.dataset.request });
  finish(at("declined"));
});

function finish(panel) {
  screen.hidden = true;
  panel.hidden = false;
  panel.querySelector("h1").focus();
  window.scrollTo(0, 0);
}

// Nobody answers before the browser has compared the screen with the signed request.
at("refuse").disabled = false;
matches().then(() => { at("agree").disabled = false; }, () => say(said["differs"], "bad"));
