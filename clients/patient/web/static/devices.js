// Further devices and guardians: what is added is read here, shown, and signed only as it was shown.

import { errand, offer, onClick, origin, post, readFile, said, say } from "/static/errand.js";
import { Differs, ROLES } from "/static/check.js";
import { find, fresh, keep, sha256 } from "/static/keys.js";
import { SUBJECT_KEY, decode, hex, unbase64, unhex } from "/static/wire.js";
import { keyOf } from "/static/key-of.js";

const at = (name) => document.getElementById(name);
const spell = (key) => key.match(/.{1,8}/g).join(" ");
const roleName = (role) => Object.keys(ROLES).find((name) => ROLES[name] === role);
let waiting;

for (const button of document.querySelectorAll("[data-add]")) {
  const file = document.querySelector(`[data-offer-file="${button.dataset.add}"]`);
  file.addEventListener("change", () => { if (file.files.length) button.click(); });
  onClick(button, async () => {
    if (!file.files.length) { file.click(); return; }
    const document_ = await readFile(file.files[0]);
    file.value = "";
    const line = decode(SUBJECT_KEY, unbase64((await post("/api/keys/read", { offer: document_ })).payload));
    const own = await find(button.dataset.add), name = roleName(line.role);
    if (!own || hex(line.subject) !== hex(await sha256(own.raw)) || !name || name === "recovery") throw new Differs("offer");
    waiting = { offer: document_, pair: button.dataset.add, adds: { key: hex(line.key), role: line.role } };
    at("adding-what").textContent = said[`role-${name}`];
    at("adding-key").textContent = spell(hex(line.key));
    at("adding").showModal();
  });
}

onClick(at("adding-yes"), async () => {
  at("adding").close();
  await errand("/api/keys/add", { key: waiting.pair, offer: waiting.offer }, { kind: "add", adds: waiting.adds });
  await post("/api/keys/seen", {});
  location.reload();
});

for (const button of document.querySelectorAll("[data-strike]")) {
  onClick(button, async () => {
    button.closest("dialog").close();
    const { strike: struck, by } = button.dataset;
    await errand("/api/keys/strike", { key: by, struck }, { kind: "strike", struck });
    await post("/api/keys/seen", {});
    location.reload();
  });
}

onClick(at("offer"), async () => {
  const whose = keyOf(), role = document.querySelector("input[name=role]:checked").value;
  const key = await fresh(whose.hospital, whose.recipient), subject = hex(await sha256(unhex(whose.subject_key)));
  Object.assign(key, { origin, wallet_key: "", subject, role: ROLES[role] });
  const adds = { key: key.public, role: ROLES[role] };
  await keep(key);
  const found = await errand("/api/keys/offer", { ...whose, role, key: key.public }, { kind: "offer", adds, lent: [key] });
  at("offered-key").textContent = spell(key.public);
  offer(at("offer-file"), "offer.json", found.offer);
  at("watch").hidden = true;
  at("offered").hidden = false;
  at("offered").querySelector("[tabindex]").focus();
});

// What is on the page now was seen.
if (document.querySelector(".key.news")) post("/api/keys/seen", {}).catch(() => say(said["broken"], "bad"));
