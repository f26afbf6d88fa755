function shown(node, name, key) {
  // ruleid: text-that-becomes-markup
  node.innerHTML = name;
  // ruleid: text-that-becomes-markup
  node.insertAdjacentHTML("beforeend", `<b>${name}</b>`);
  // ruleid: text-that-becomes-markup
  document.write(name);
  // ruleid: text-that-becomes-markup
  setTimeout("go()", 10);
  // ok: text-that-becomes-markup
  node.textContent = name;
  // ok: text-that-becomes-markup
  setTimeout(() => node.remove(), 10);
  // ruleid: key-that-outlives-its-tab
  localStorage.setItem("key", key);
  // ruleid: key-that-outlives-its-tab
  document.cookie = `key=${key}`;
  // ok: key-that-outlives-its-tab
  node.dataset.state = "known";
}
