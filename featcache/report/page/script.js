"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const matrix = document.getElementById("matrix");
  document.documentElement.classList.add("js");

  // Paper shows what is folded away.
  const folded = document.querySelectorAll("details");
  addEventListener("beforeprint", () => folded.forEach((part) => (part.open = true)));
  addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));
  if (!matrix) return;

  // The order of the classes: rows and columns of the matrix and the rows of the list below it.
  const head = matrix.tHead.rows[0];
  const body = matrix.tBodies[0];
  const list = document.getElementById("classes").tBodies[0];
  const columns = [...head.cells].slice(1);
  const rows = [...body.rows];
  const cells = rows.map((row) => [...row.cells].slice(1));
  const listed = [...list.rows].sort((one, other) => one.dataset.i - other.dataset.i);
  const by = {
    name: () => 0,
    recall: (one, other) => (data.recall[one] ?? 2) - (data.recall[other] ?? 2),
    support: (one, other) => data.support[other] - data.support[one],
  };
  let order = rows.map((_, i) => i);
  const sort = (what) => {
    order = rows.map((_, i) => i).sort((one, other) => by[what](one, other) || one - other);
    head.append(...order.map((i) => columns[i]));
    order.forEach((i) => rows[i].append(...order.map((j) => cells[i][j])));
    body.append(...order.map((i) => rows[i]));
    list.append(...order.map((i) => listed[i]));
  };
  document.querySelectorAll("input[name=order]").forEach((input) => {
    input.addEventListener("change", () => sort(input.value));
    if (input.checked && input.value !== "name") sort(input.value); // a reload keeps what was chosen
  });

  // What a cell is: [truth, prediction].
  const place = new Map();
  cells.forEach((row, i) => row.forEach((cell, j) => place.set(cell, [i, j])));
  const told = document.getElementById("told");
  let lit = [];
  const tell = (cell) => {
    lit.forEach((name) => name.classList.remove("on"));
    if (!place.has(cell)) return;
    const [i, j] = place.get(cell);
    lit = [rows[i].cells[0], columns[j]];
    lit.forEach((name) => name.classList.add("on"));
    told.textContent = cell.title || `${data.names[i]}: none ${i === j ? "right" : `taken for ${data.names[j]}`}`;
  };
  matrix.addEventListener("mouseover", (event) => tell(event.target.closest("td")));

  // The names of the images: each begins as the one before it does.
  let names;
  const decode = () => {
    let before = "";
    return data.images.map((coded) => {
      const gap = coded.indexOf(" ");
      before = before.slice(0, Number(coded.slice(0, gap))) + coded.slice(gap + 1);
      return before;
    });
  };

  // The images of a cell, a page at a time.
  const dialog = document.getElementById("cell");
  const shown = document.getElementById("shown");
  const earlier = document.getElementById("earlier");
  const later = document.getElementById("later");
  const picture = (number, name) => {
    const thumbnail = data.thumbnail[number];
    if (thumbnail === undefined) return [];
    const image = document.createElement("img");
    image.alt = `${data.by} ${name}`;
    image.src = `data:image/webp;base64,${data.thumbnails[thumbnail]}`;
    return [image];
  };
  let turn = () => {};
  const show = (cell) => {
    if (!place.has(cell) || !cell.title) return;
    names ??= decode();
    const [i, j] = place.get(cell);
    const [images, sure, truth] = data.cells[`${i},${j}`] || [[], [], []];
    document.getElementById("cell-title").textContent =
      i === j ? `${data.names[i]}, right` : `${data.names[i]} taken for ${data.names[j]}`;
    const pages = Math.ceil(images.length / data.page);
    let page = 0;
    const fill = () => {
      const first = page * data.page;
      const last = page === pages - 1 ? cell.dataset.listed : data.lasts[page];
      const part = cell.dataset.listed === cell.dataset.count.split(" ")[0] ? "" : `, ${cell.dataset.listed} of them listed`;
      document.getElementById("cell-count").textContent =
        `${data.firsts[page]} to ${last} of ${cell.dataset.count}${part}, the most confident first`;
      shown.replaceChildren(...images.slice(first, first + data.page).map((number, at) => {
        const item = document.createElement("li");
        const name = document.createElement("code");
        name.textContent = names[number];
        const chances = document.createElement("span");
        const predicted = `${data.percents[sure[first + at]]} ${data.names[j]}`;
        chances.textContent =
          i === j ? predicted : `${predicted}; ${data.percents[truth[first + at]]} ${data.names[i]}`;
        const pictures = picture(number, names[number]);
        if (!pictures.length) item.className = "none";
        item.append(...pictures, name, chances);
        return item;
      }));
      document.getElementById("turn").hidden = pages < 2;
      earlier.disabled = page === 0;
      later.disabled = page === pages - 1;
    };
    turn = (step) => {
      page += step;
      fill();
      dialog.scrollTop = 0;
    };
    fill();
    dialog.showModal();
    dialog.scrollTop = 0;
  };
  earlier.addEventListener("click", () => turn(-1));
  later.addEventListener("click", () => turn(1));
  matrix.addEventListener("click", (event) => show(event.target.closest("td")));
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  // The keyboard: one stop for the whole matrix, arrows within it, Enter to look.
  matrix.setAttribute("role", "grid");
  let at = cells[0][0];
  at.tabIndex = 0;
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  matrix.addEventListener("focusin", (event) => {
    const cell = event.target.closest("td");
    if (!place.has(cell)) return;
    at.tabIndex = -1;
    at = cell;
    at.tabIndex = 0;
    tell(cell);
  });
  matrix.addEventListener("keydown", (event) => {
    if (!place.has(event.target)) return;
    if (event.key === "Enter" || event.key === " ") show(event.target);
    else if (event.key in steps) {
      const [i, j] = place.get(event.target);
      const [down, right] = steps[event.key];
      const row = order[order.indexOf(i) + down];
      const column = order[order.indexOf(j) + right];
      if (row === undefined || column === undefined) return;
      cells[row][column].tabIndex = -1;
      cells[row][column].focus();
    } else return;
    event.preventDefault();
  });
})();
