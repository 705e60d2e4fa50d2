// Follows a settlement that still moves, and prints.
const print = document.getElementById("print");
if (print) print.addEventListener("click", () => window.print());

const shown = document.querySelector("[data-settlement]");
const moving = new Set(["open", "reversing"]);

async function look() {
  const answer = await fetch(`/desk/${shown.dataset.settlement}/state`, { headers: { Accept: "application/json" } });
  if (answer.ok && (await answer.json()).state !== shown.dataset.state) location.reload();
  else setTimeout(look, 1000);
}
if (shown && moving.has(shown.dataset.state)) setTimeout(look, 500);
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", () => form.querySelector(".button").setAttribute("aria-busy", "true"));
}
