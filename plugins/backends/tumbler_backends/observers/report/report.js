(() => {
  const form = document.getElementById("filter");
  if (!form) return;
  const cards = [...document.querySelectorAll(".trajectory")];
  const texts = new Map();
  const textOf = (card) => {
    if (!texts.has(card)) texts.set(card, card.textContent.toLowerCase());
    return texts.get(card);
  };
  const apply = () => {
    const { stage, outcome, words } = form.elements;
    const wanted = words.value.trim().toLowerCase();
    let shown = 0;
    for (const card of cards) {
      const match =
        (!stage.value || card.dataset.stage === stage.value) &&
        (!outcome.value || card.dataset.outcome === outcome.value) &&
        (!wanted || textOf(card).includes(wanted));
      card.hidden = !match;
      shown += match;
    }
    document.getElementById("shown").textContent = shown + " shown";
    document.getElementById("no-match").hidden = shown > 0;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
