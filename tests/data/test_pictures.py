import numpy as np
import pytest
from PIL import Image

from mmgrec_jax.data import pictures
from mmgrec_jax.errors import UserError

ITEMS = np.array(["x", "y.1", "z 🎬"])


def draw(path, colour=(255, 0, 0), mode="RGB"):
  path.parent.mkdir(exist_ok=True)
  Image.new("RGB", (8, 6), colour).convert(mode).save(path)
  return path


def test_files_are_joined_by_item_id(tmp_path, capsys):
  z, y = draw(tmp_path / "z 🎬.webp"), draw(tmp_path / "y.1.PNG")
  draw(tmp_path / "unknown.jpg")
  (tmp_path / "x.txt").write_text("no picture by its name")
  assert pictures.in_folder(tmp_path, ITEMS) == [None, y, z]
  assert "1 of 3 pictures are of no item" in capsys.readouterr().out


def test_wrong_folders_are_named(tmp_path):
  folder = tmp_path / "p"
  for says in ("p: no such folder", "p: no picture in it; name them <item id>"):
    with pytest.raises(UserError, match=says):
      pictures.in_folder(folder, ITEMS)
    folder.mkdir(exist_ok=True)
  draw(folder / "other.png")
  with pytest.raises(UserError, match="p: none of its 1 ids, such as 'other'"):
    pictures.in_folder(folder, ITEMS)
  draw(folder / "x.png"), draw(folder / "x.jpg")
  with pytest.raises(UserError, match=r"x\.jpg and x\.png are both of item"):
    pictures.in_folder(folder, ITEMS)


def table(folder, *named):
  rows = [f"{item},{name}" for item, name in named]
  path = folder / "items.csv"
  path.write_text("\n".join(["item,poster", *rows]) + "\n", encoding="utf-8")
  return path, "item", "poster", ITEMS


def test_a_column_names_files_from_where_its_table_is(tmp_path, capsys):
  picture = draw(tmp_path / "p" / "1.png")
  named = [("z 🎬", "p/1.png"), ("y.1", "p/gone.png"), ("x", "")]
  found = pictures.in_column(*table(tmp_path, *named))
  assert found == [None, None, picture]
  out = capsys.readouterr().out
  assert "1 of 2 files that 'poster' names are not there, such as" in out
  assert "gone.png" in out


def test_a_column_without_any_file_is_refused(tmp_path):
  for name in ("https://a/1.png", ""):
    with pytest.raises(UserError, match=r"items\.csv: no file that 'poster'"):
      pictures.in_column(*table(tmp_path, ("x", name)))
  path, item, _, ids = table(tmp_path, ("x", "a"))
  with pytest.raises(UserError, match="no column 'art'.*--image_column"):
    pictures.in_column(path, item, "art", ids)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_pictures_of_every_kind_are_opened_as_rgb(tmp_path, mode):
  ending = "jpg" if mode == "CMYK" else "png"
  picture = pictures.open_picture(draw(tmp_path / f"a.{ending}", mode=mode))
  assert picture.mode == "RGB" and picture.size == (8, 6)


def test_what_is_no_picture_has_a_reason(tmp_path):
  page, torn = tmp_path / "a.jpg", tmp_path / "b.png"
  page.write_text("<html>404</html>")
  Image.effect_noise((50, 50), 99).save(torn)
  torn.write_bytes(torn.read_bytes()[:999])
  for path in (page, torn, tmp_path / "gone.png"):
    with pytest.raises(UserError, match="."):
      pictures.open_picture(path)
