"""The gallery's server accepts only GET and its own host names, and sends only escaped text and verified pictures."""

import html
import re
import socket
import time
from pathlib import Path

import pytest

from pipelines.gallery.catalogue import Query, open_catalogue
from teacher_cache import Cache
from tests.pipelines.cli import armada
from tests.pipelines.galleries import FAILING, PLAIN, SCRIPT, fill, request, served


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Yield a cache and the address at which it is served."""
    folder = tmp_path_factory.mktemp("gallery")
    cache = Cache(str(folder / "cache"), create=True)
    fill(cache)
    with served(cache, folder / "home") as address:
        yield cache, address


def rows(cache, show="all"):
    catalogue = open_catalogue(cache)
    return catalogue.find(Query(catalogue.teachers[0], show)).rows


def prompts_on(page):
    return [html.unescape(text) for text in re.findall(r'class="prompt" dir="auto">([^<]*)<', page)]


def test_pages_search_and_filters_show_what_the_cache_holds(gallery):
    cache, address = gallery
    first = request(address, "/")[2].decode()
    assert prompts_on(first) == [row.prompt for row in rows(cache)]
    assert "page 1 of 3" in first
    third = request(address, "/?page=3")[2].decode()
    assert len(prompts_on(third)) == 4
    assert request(address, "/?page=99")[2] == third.encode()
    assert prompts_on(request(address, "/?q=number+17")[2].decode()) == ["a quiet picture of thing number 17"]
    assert sorted(prompts_on(request(address, "/?show=failed")[2].decode())) == sorted(FAILING)
    assert "No row has all of these words" in request(address, "/?q=nothing+like+this")[2].decode()
    for odd in ("page=-1", "page=1e9", "page=", "page=99999999999999999999", "q=%00", "q=%ff", "q=" + "a" * 5000):
        assert request(address, f"/?{odd}")[0] == 200, odd


def test_a_row_shows_its_picture_facts_and_nearest_pictures(gallery):
    cache, address = gallery
    row = next(row for row in rows(cache) if row.prompt == PLAIN[0])
    for _ in range(20):
        page = request(address, f"/row/{row.image_key}")[2].decode()
        if "cosine" in page and "are being read" not in page:
            break
        time.sleep(0.3)
    assert prompts_on(page)[0] == PLAIN[0]
    assert row.image_sha256 in page
    cosines = [float(number) for number in re.findall(r"cosine (-?[\d.]+)<", page)]
    assert len(cosines) == 12
    assert cosines == sorted(cosines, reverse=True)
    status, headers, data = request(address, f"/picture/{row.image_key}")
    assert (status, headers["content-type"], len(data)) == (200, "image/png", row.bytes)
    failed = next(row for row in rows(cache, "failed:refused"))
    assert "the prompt asked for it" in request(address, f"/row/{failed.image_key}")[2].decode()
    assert request(address, f"/picture/{failed.image_key}")[0] == 404


def test_coverage_counts_pictures_features_failures_and_money(gallery):
    _, address = gallery
    text = re.sub(r"<[^>]+>", " ", request(address, "/coverage")[2].decode())
    text = " ".join(text.split())
    for words in ("requested 100", "pictures 96", "failed: refused 2", "failed: blank 1", "no row has a price"):
        assert words in text, words


def test_text_from_a_cache_is_escaped_on_every_page(gallery):
    cache, address = gallery
    (row,) = (row for row in rows(cache) if row.prompt == SCRIPT)
    for path in ("/", "/?q=%3Cscript%3E", f"/row/{row.image_key}", "/coverage", "/?show=%3Cscript%3E"):
        page = request(address, path)[2].decode()
        assert "<script>" not in page, path
        assert re.findall(r"<script[^>]*>", page) == ['<script src="/assets/gallery.js" defer>'], path
        assert not re.search(r"<[^>]* on\w+=", page), path
        assert "<img src=x" not in page, path


@pytest.mark.parametrize("path", ["/", "/coverage", "/assets/gallery.css", "/nothing", "/?show=wrong", "/row/none"])
def test_every_response_has_the_security_headers(gallery, path):
    _, headers, _ = request(gallery[1], path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers
    assert "set-cookie" not in headers


def test_other_methods_and_other_names_are_refused(gallery):
    _, address = gallery
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert request(address, "/", method)[0] == 405, method
    assert (
        request(address, "/", Host="evil.example")[0] == 400
    )  # a name that was rebound to this machine (DNS rebinding)
    assert request(address, "/", Host="127.0.0.1.evil.example")[0] == 400
    assert request(address, "/", Host="localhost")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../pages.py",
        "/assets/..%2f..%2fpages.py",
        "/assets/base.html.j2",
        "/picture/../../etc/passwd",
        "/picture/..%2fcache.json",
        "/row/%3Cscript%3E",
        "//etc/passwd",
        "/picture/" + "0" * 64,
    ],
)
def test_no_path_leads_out_of_the_pages(gallery, path):
    status, _, body = request(gallery[1], path)
    assert status == 404
    assert b"root:" not in body
    assert b"<script>" not in body


def test_pages_follow_a_cache_that_grows_and_report_damage(cache, tmp_path):
    fill(cache, PLAIN[:20])
    with served(cache, tmp_path / "user-cache") as address:
        assert len(prompts_on(request(address, "/")[2].decode())) == 20
        fill(cache, PLAIN[:25])
        time.sleep(2.2)
        for _ in range(20):
            shown = prompts_on(request(address, "/")[2].decode())
            if len(shown) == 25:
                break
            time.sleep(0.2)
        assert len(shown) == 25
        row = next(row for row in rows(cache) if row.prompt == PLAIN[0])
        tar = Path(str(cache.store)) / row.path
        data = bytearray(tar.read_bytes())
        data[row.offset + 20] ^= 1
        tar.write_bytes(data)
        status, headers, _ = request(address, f"/picture/{row.image_key}")
        assert (status, headers["content-type"]) == (404, "image/svg+xml")
        page = request(address, f"/row/{row.image_key}")[2].decode()
        assert "differs from its sha256" in page
        assert "armada cache verify --repair" in page


def test_a_search_of_very_many_words_is_answered(gallery):
    _, address = gallery
    status, headers, _ = request(address, "/?q=" + "%EF%B7%BA" * 1000)  # one character, four words each
    assert status == 200
    assert "content-security-policy" in headers


def test_a_failed_check_of_the_cache_is_tried_again(cache, monkeypatch):
    from pipelines.gallery import live_gallery as module

    fill(cache, PLAIN[:3])
    monkeypatch.setattr(module, "_CHECK_S", 0.0)
    gallery = module.LiveGallery(cache)
    real, calls = module.list_shards, []

    def failing(cache):
        calls.append(1)
        if len(calls) == 1:
            raise TimeoutError("the store is slow")
        return real(cache)

    monkeypatch.setattr(module, "list_shards", failing)
    assert "the store is slow" in gallery.pages().notice
    assert gallery.pages().notice == ""
    assert len(calls) == 2


def test_features_that_cannot_be_read_hide_no_picture_and_are_opened_again(cache, monkeypatch):
    from pipelines.gallery import live_gallery as module

    fill(cache, PLAIN[:6])
    gallery = module.LiveGallery(cache)
    catalogue = gallery.catalogue
    (teacher,) = catalogue.teachers
    row = next(iter(catalogue.walk(teacher)))
    query = (catalogue.digest, teacher, teacher.encoders[0], row.image_key)
    monkeypatch.setattr(module, "open_features", lambda *words: (_ for _ in ()).throw(TimeoutError("slow")))
    with pytest.raises(TimeoutError):
        gallery.near(*query)
    monkeypatch.undo()
    assert len(gallery.near(*query)) == 5
    matrix = next(cache.derived_folder.glob("matrices/*/features.npy"))
    whole = matrix.read_bytes()
    with matrix.open("r+b") as stream:
        stream.seek(len(whole) - 40)
        stream.write(bytes(40))
    with pytest.raises(Exception, match="differ from their checksums"):
        gallery.near(*query)
    page = gallery.pages().row(row, teacher.encoders[0], None, near_fault="that was damaged")
    assert "/picture/" in page
    assert "that was damaged" in page
    assert "are being read" not in page
    assert len(gallery.near(*query)) == 5  # decoded again


def test_a_taken_port_and_a_cache_without_pictures_are_errors_without_traceback(cache, tmp_path):
    empty = armada("cache", "browse", cache.store, "--port", 0, "--no-open")
    assert empty.returncode == 2
    assert "no teacher has drawn into this cache yet" in empty.stderr
    fill(cache, PLAIN[:1])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = armada("cache", "browse", cache.store, "--port", port, "--no-open")
    assert run.returncode == 2
    assert f"--port {port}: expected a free port" in run.stderr
    assert "Traceback" not in run.stderr
