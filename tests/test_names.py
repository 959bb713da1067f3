from __future__ import annotations

import hashlib
import itertools
import pathlib
import re
import sys

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from npipe.errors import PipeNameError
from npipe.names import MAX_NAME_UNITS, PipeName, parse_name, parse_win32_name

PREFIX = "\\\\.\\pipe\\"
LITERAL = "\\\\?\\pipe\\"

# Any text that can be a literal name: lone surrogates and control characters too, NUL and pure backslashes not.
names = st.text(
    st.characters(exclude_characters="\0", codec=None) | st.sampled_from("aA.\\/ ~%éßſ\ud800\udc00\U0001f600"),
    min_size=1,
    max_size=60,
).filter(lambda name: name.strip("\\") != "")


def code_of(text: str, *, win32: bool = False) -> int:
    with pytest.raises(PipeNameError) as caught:
        (parse_win32_name if win32 else parse_name)(text)
    assert caught.value.pipe_name == text
    return caught.value.winerror


# --- Forms


@pytest.mark.parametrize(
    "text",
    [
        r"\\.\pipe\Some.Name",
        r"\\?\pipe\Some.Name",
        r"\??\pipe\Some.Name",
        "//./pipe/Some.Name",
        "//?/pipe/Some.Name",
        r"\\./pipe\Some.Name",
        r"\\.\PIPE\Some.Name",
        r"\\?\PiPe\Some.Name",
        r"\\.\GLOBALROOT\Device\NamedPipe\Some.Name",
        r"\\.\globalroot\DEVICE\namedpipe\Some.Name",
        r"\\?\GLOBALROOT\Device\NamedPipe\Some.Name",
        r"\??\GLOBALROOT\Device\NamedPipe\Some.Name",
        "//./globalroot/device/namedpipe/Some.Name",
    ],
)
def test_every_path_form_names_the_same_pipe(text: str) -> None:
    for parse in (parse_name, parse_win32_name):
        name = parse(text)
        assert (name.text, name.display, name.key, name.host) == (text, "Some.Name", "SOME.NAME", None)
        assert name.path == r"\\.\pipe\Some.Name"
        assert name == parse_name("some.NAME")


@pytest.mark.parametrize(
    "text",
    [
        "npipe:////./pipe/x",
        "NPIPE:////./pipe/x",
        "npipe:////./PIPE/x",
        "npipe://./pipe/x",
        r"npipe://\\.\pipe\x",
    ],
)
def test_docker_form_is_for_the_npipe_face_only(text: str) -> None:
    name = parse_name(text)
    assert name.path == r"\\.\pipe\x"
    assert name.text == text
    assert code_of(text, win32=True) == 123


@pytest.mark.parametrize("text", ["npipe:", "npipe:x", "npipe:/x", "npipe://", "npipe:////./pipe/", "NPIPE:x"])
def test_docker_form_without_a_pipe_is_refused(text: str) -> None:
    assert code_of(text) == 123


def test_docker_form_on_another_device_has_code_3() -> None:
    assert code_of("npipe:////./pip/x") == 3


@pytest.mark.parametrize(
    "text", ["x", r"pipe\x", "c:", "c:x", ".x", "..x", " x", "npipe", 'é<>*?|:"', "cc:\\x", r"a\b", "tcp:x", "x\\"]
)
def test_bare_name_means_what_it_means_behind_the_prefix_and_is_for_the_npipe_face_only(text: str) -> None:
    name = parse_name(text)
    assert name.display == text
    assert name == parse_name(LITERAL + text) == parse_name(PREFIX + text)
    assert name.path == PREFIX + text
    assert code_of(text, win32=True) == 123


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("a/b", r"a\b"),
        ("./x.sock", "x.sock"),
        ("tcp://host", r"tcp:\host"),
        ("x/", "x\\"),
        ("x.", "x"),
        ("x ", "x"),
        (r"a\\b", r"a\b"),
        (r"a\..\b", "b"),
    ],
)
def test_a_bare_name_that_would_be_another_behind_the_prefix_is_refused(text: str, becomes: str) -> None:
    assert code_of(text) == 123
    with pytest.raises(PipeNameError, match=re.escape(f"would become {PREFIX}{becomes}; write that")):
        parse_name(text)
    assert parse_name(LITERAL + text).display == text
    assert parse_name(PREFIX + text) == parse_name(becomes)


@pytest.mark.parametrize("text", ["..", ".", "../run/x", "./", "..."])
def test_a_bare_name_that_would_be_none_behind_the_prefix_is_refused(text: str) -> None:
    assert code_of(text) == code_of(PREFIX + text) == 123
    with pytest.raises(PipeNameError, match="where this names no pipe"):
        parse_name(text)
    assert parse_name(LITERAL + text).display == text


@pytest.mark.parametrize("char", ["\n", "\t", "\r\n", "\x1b", "\x01", "\x7f", "\x85"])
@pytest.mark.parametrize("prefix", ["", PREFIX, "npipe:////./pipe/", r"\\host\pipe\x"])
def test_control_characters_are_for_the_literal_form_only(char: str, prefix: str) -> None:
    for text in (f"{prefix}x{char}", f"{prefix}x{char}y"):
        assert code_of(text) == 123
        with pytest.raises(PipeNameError, match="control character"):
            parse_name(text)
    name = parse_name(f"{LITERAL}x{char}y")
    assert name.display == f"x{char}y"
    assert parse_name(name.path) == name
    assert parse_win32_name(f"{PREFIX}x{char}y") == name


@pytest.mark.parametrize("text", ["C:\\foo", "c:/foo", "Z:\\", "C:\\pipe\\x"])
def test_drive_path_is_not_a_bare_name(text: str) -> None:
    assert code_of(text) == 123
    assert code_of(text, win32=True) == 123


@pytest.mark.parametrize("text", ["/tmp/x", r"\x", "/", "\\", r"\pipe\x", "/./pipe/x", r"\?\pipe\x", "/??/pipe/x"])
def test_rooted_path_of_something_else_is_refused(text: str) -> None:
    assert code_of(text) == 123


@pytest.mark.parametrize("path", [pathlib.PureWindowsPath(r"\\.\pipe\x"), pathlib.PurePosixPath(r"\\.\pipe\x")])
def test_path_objects_are_accepted(path: pathlib.PurePath) -> None:
    assert parse_name(path) == parse_name("x")
    assert parse_win32_name(path) == parse_name("x")


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"x"


@pytest.mark.parametrize("wrong", [b"x", bytearray(b"x"), None, 1, BytesPath()])
def test_anything_but_text_is_a_type_error(wrong: object) -> None:
    for parse in (parse_name, parse_win32_name):
        with pytest.raises(TypeError, match="the name of a pipe is str"):
            parse(wrong)  # type: ignore[arg-type]


# --- What is allowed in a name


@pytest.mark.parametrize(
    "name", ["nul", "con", "a<b", "a>b", "*", "?", '"', "|", "a:b", "\x01\x1f", "😀", "a b", "LOCAL\\x"]
)
def test_any_character_and_dos_device_name_is_allowed(name: str) -> None:
    assert parse_win32_name(PREFIX + name).display == name
    assert parse_win32_name(LITERAL + name).display == name


def test_backslash_inside_a_name_is_flat() -> None:
    assert parse_name(r"\\.\pipe\a\b").display == r"a\b"
    assert parse_name(r"\\.\pipe\a\b") != parse_name(r"\\.\pipe\a")


def test_trailing_backslash_makes_another_pipe() -> None:
    assert parse_name("\\\\.\\pipe\\x\\").display == "x\\"
    assert parse_name("\\\\.\\pipe\\x\\") != parse_name(r"\\.\pipe\x")
    assert parse_name("\\\\.\\pipe\\x\\\\") == parse_name("\\\\.\\pipe\\x\\")
    assert parse_name("\\\\?\\pipe\\x\\\\") != parse_name("\\\\?\\pipe\\x\\")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\\\\.\\pipe\\c/d", "c\\d"),
        ("//./pipe/c/d", "c\\d"),
        ("\\\\.\\pipe\\\\c\\\\\\d", "c\\d"),
        ("\\\\.\\\\pipe\\c", "c"),
        ("\\\\.\\pipe\\.\\c\\.\\d", "c\\d"),
        ("\\\\.\\pipe\\c\\..\\d", "d"),
        ("\\\\.\\pipe\\c\\d\\..", "c"),
        ("\\\\.\\pipe\\c\\.", "c"),
        ("\\\\.\\pipe\\c\\d\\..\\", "c\\"),
        ("\\\\.\\pipe\\tr.", "tr"),
        ("\\\\.\\pipe\\tr. . ", "tr"),
        ("\\\\.\\pipe\\a.\\b ", "a.\\b"),
        ("\\\\.\\pipe\\a\\...", "a\\"),
        ("\\\\.\\pipe\\...a", "...a"),
        ("\\\\.\\pipe\\ a", " a"),
        ("\\\\.\\other\\..\\pipe\\x", "x"),
        ("\\\\.\\pipe\\..\\pipe\\x", "x"),
        ("\\\\.\\..\\..\\pipe\\x", "x"),
        ("npipe:////./pipe/a/../b.", "b"),
    ],
)
def test_dot_form_is_normalised_as_a_path(text: str, name: str) -> None:
    assert parse_name(text).display == name


@pytest.mark.parametrize("name", ["c/d", "tr.", "tr ", "..", ".", "a\\..\\b", "a\\\\b", "\\a", "a/../b", "..."])
@pytest.mark.parametrize("prefix", [LITERAL, "\\??\\pipe\\", "\\\\?\\GLOBALROOT\\Device\\NamedPipe\\"])
def test_question_mark_forms_are_literal(prefix: str, name: str) -> None:
    assert parse_name(prefix + name).display == name


def test_slash_in_a_literal_name_is_an_ordinary_character() -> None:
    assert parse_name(r"\\?\pipe\c/d") != parse_name(r"\\.\pipe\c/d")
    assert code_of(r"\\?\pipe/x") == 3


# --- What is refused


def test_empty_name_has_code_3() -> None:
    assert code_of("") == 3
    assert code_of("", win32=True) == 3


@pytest.mark.parametrize(
    "text",
    [
        "\\\\.\\pipe",
        "\\\\.\\pipe\\",
        "\\\\.\\pipe\\\\",
        "\\\\.\\pipe ",
        "\\\\.\\pipe\\.",
        "\\\\.\\pipe\\x\\..",
        "\\\\.\\pipe\\...",
        "\\\\.\\pipe\\ . .",
        "//./pipe/",
        "\\\\?\\pipe",
        "\\\\?\\pipe\\",
        "\\\\?\\pipe\\\\",
        "\\??\\PIPE\\",
        "\\\\.\\GLOBALROOT\\Device\\NamedPipe",
        "\\\\.\\GLOBALROOT\\Device\\NamedPipe\\",
        "\\\\host\\pipe",
        "\\\\host\\pipe\\",
    ],
)
def test_root_of_the_pipes_is_not_a_pipe(text: str) -> None:
    assert code_of(text) == 123
    assert code_of(text, win32=True) == 123


@pytest.mark.parametrize(
    "text",
    [
        r"\\.\pip\x",
        r"\\.\pipex\x",
        r"\\.\pipe.\x",
        r"\\?\pip\x",
        r"\??\C:\x",
        r"\\.\C:\x",
        "\\\\.\\p\u0131pe\\x",
        r"\\.\GLOBALROOT\Device\Mailslot\x",
        r"\\.\GLOBALROOT\Device",
        "\\\\.\\",
        "\\\\?\\",
        r"\\.\UNC\host\pipe\x",
    ],
)
def test_another_device_has_code_3(text: str) -> None:
    assert code_of(text) == 3
    assert code_of(text, win32=True) == 3


@pytest.mark.parametrize("text", [r"\\.\pipe\..\up", r"//./pipe/../up", r"\\.\pipe\a\..\..\up", r"\\.\pipe\.."])
def test_path_that_climbs_out_of_the_pipe_device_is_refused(text: str) -> None:
    assert code_of(text) == 123


@pytest.mark.parametrize("text", ["\0", "x\0", "\\\\.\\pipe\\x\0y", "npipe:////./pipe/\0"])
def test_embedded_nul_is_refused(text: str) -> None:
    assert code_of(text) == 123
    assert code_of(text, win32=True) == 123


@pytest.mark.parametrize(("char", "units"), [("x", 1), ("é", 1), ("😀", 2), ("\ud800", 1)])
@pytest.mark.parametrize("prefix", [PREFIX, LITERAL, "", "npipe:////./pipe/", "\\\\.\\GLOBALROOT\\Device\\NamedPipe\\"])
def test_256_utf16_units_with_the_prefix_is_the_limit(prefix: str, char: str, units: int) -> None:
    room = MAX_NAME_UNITS - len(PREFIX)
    longest = "a" * (room % units) + char * (room // units)
    assert len(longest.encode("utf-16-le", "surrogatepass")) // 2 == room == 247
    assert parse_name(prefix + longest).display == longest
    assert code_of(prefix + "a" + longest) == 123


def test_length_counts_after_normalising() -> None:
    assert parse_name(PREFIX + "\\" * 300 + "x").display == "x"


# --- Hosts


@pytest.mark.parametrize(
    "text",
    [
        r"\\Host\pipe\x",
        "//Host/pipe/x",
        r"\\?\UNC\Host\pipe\x",
        r"\??\unc\Host\PIPE\x",
        r"\\Host\PIPE\a\..\x.",
        r"\\Host\pipe\..\x",
    ],
)
def test_host_form_keeps_the_host(text: str) -> None:
    name = parse_win32_name(text)
    assert (name.host, name.display, name.key) == ("Host", "x", "X")
    assert name.path == r"\\Host\pipe\x"
    assert name == parse_name(text)
    assert name == parse_name(r"\\HOST\pipe\X")
    assert name != parse_name("x")


@pytest.mark.parametrize("host", ["localhost", "10.0.0.1", "fe80--1.ipv6-literal.net", "a.b.example", "сервер"])
def test_host_may_be_any_host_name(host: str) -> None:
    assert parse_name(rf"\\{host}\pipe\x").host == host


@pytest.mark.parametrize(
    "text",
    [
        r"\\host\share\x",
        r"\\host",
        "\\\\",
        r"\\\pipe\x",
        r"\\..\pipe\x",
        r"\\?\UNC\.\pipe\x",
        r"\\a b\pipe\x",
        r"\\a*\pipe\x",
        "\\\\" + "h" * 256 + "\\pipe\\x",
        r"\\host\\pipe\x",
    ],
)
def test_path_of_a_host_that_is_no_pipe_is_refused(text: str) -> None:
    assert code_of(text) == 123


def test_literal_name_of_a_host_keeps_its_meaning_in_its_path() -> None:
    name = parse_name("\\\\?\\UNC\\host\\pipe\\a/b.")
    assert name.path == "\\\\?\\UNC\\host\\pipe\\a/b."
    assert parse_name(name.path) == name


# --- Comparison


@pytest.mark.parametrize(
    ("one", "other"),
    [("abc", "ABC"), ("É", "é"), ("ÿ", "Ÿ"), ("σ", "Σ"), ("ς", "Σ"), ("ǆ", "ǅ"), ("ᾳ", "ᾼ"), ("я", "Я"), ("ⓐ", "Ⓐ")],
)
def test_names_that_differ_in_case_alone_are_the_same_pipe(one: str, other: str) -> None:
    first, second = parse_name(one), parse_name(other)
    assert first == second
    assert hash(first) == hash(second)
    assert first.folder == second.folder
    assert (first.display, second.display) == (one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ß", "SS"), ("ß", "ẞ"), ("ﬁ", "FI"), ("ŉ", "ʼN"), ("𐐨", "𐐀"), ("e\u0301", "é"), ("a", "b")],
)
def test_only_simple_upcasing_counts(one: str, other: str) -> None:
    assert parse_name(one) != parse_name(other)
    assert parse_name(one).folder != parse_name(other).folder


@pytest.mark.slow
def test_upcasing_is_one_to_one_and_stable_for_every_character() -> None:
    for code in itertools.chain(range(1, 0x2F), range(0x30, 0x5C), range(0x5D, sys.maxunicode + 1)):
        char = chr(code)
        key = parse_name(LITERAL + char).key
        assert len(key) == 1
        assert (key > "\uffff") == (char > "\uffff")
        if key != char:
            assert parse_name(LITERAL + key).key == key


def test_surrogate_pair_is_the_character_it_stands_for() -> None:
    pair = parse_name("\ud83d\ude00")
    assert pair == parse_name("😀")
    assert pair.display == "😀"


def test_a_name_equals_names_only() -> None:
    assert parse_name("x") != "x"
    assert len({parse_name("x"), parse_name("X")}) == 1


def test_a_name_is_frozen_and_prints_its_path() -> None:
    name = parse_name("x")
    assert str(name) == r"\\.\pipe\x"
    with pytest.raises(AttributeError):
        name.key = "Y"  # type: ignore[misc]


@given(names)
@example("a/b")
@example("..")
@example("\\a")
def test_path_parses_back_to_the_same_name(text: str) -> None:
    name = parse_name(LITERAL + text)
    assert name.key == parse_win32_name(name.path).key
    again = parse_name(name.path)
    assert (again, again.display, again.path) == (name, name.display, name.path)
    remote = parse_name("\\\\?\\UNC\\server\\pipe\\" + text)
    assert parse_name(remote.path) == remote


@given(names)
def test_normalising_is_idempotent(text: str) -> None:
    try:
        name = parse_name(PREFIX + text)
    except PipeNameError:
        assume(False)
    assert parse_name(PREFIX + name.display).display == name.display
    assert name.path == PREFIX + name.display


@given(st.text(st.sampled_from("pipeUNC./\\?:xX\0 npipeGLOBALROOT") | st.characters(codec=None), max_size=40))
def test_any_text_gives_a_name_or_a_name_error(text: str) -> None:
    for parse in (parse_name, parse_win32_name):
        try:
            name = parse(text)
        except PipeNameError as error:
            code = error.winerror
        else:
            code = 0
            assert name.text == text
            assert parse_win32_name(name.path) == name
        assert code in (0, 3, 123)


# --- Folders


def folder_of(key: str) -> str:
    return PipeName(key, key, key).folder


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("mynamedpipe", "MYNAMEDPIPE"),
        ("a.b_c-1", "A.B_C-1"),
        (".hidden", "%2EHIDDEN"),
        ("..", "%2E."),
        ("a b", "A%20B"),
        ("a\\b", "A%5CB"),
        ("a/b", "A%2FB"),
        ("é", "%C3%89"),
        ("~", "%7E"),
        ("%41", "%2541"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_folder_is_the_escaped_key(text: str, folder: str) -> None:
    assert parse_name(LITERAL + text).folder == folder


def test_long_folder_is_hashed() -> None:
    assert folder_of("A" * 200) == "A" * 200
    digest = hashlib.sha256(b"A" * 201).hexdigest()
    assert folder_of("A" * 201) == "A" * 100 + "~" + digest


@pytest.mark.parametrize("before", [97, 98, 99, 100])
def test_hashed_folder_is_not_cut_inside_an_escape(before: int) -> None:
    key = "A" * before + " " * 60
    head, _, digest = folder_of(key).partition("~")
    assert re.fullmatch(r"A+(%20)*", head)
    assert 97 < len(head) + 1 <= 101
    assert digest == hashlib.sha256(key.encode()).hexdigest()


def test_long_names_that_differ_at_the_end_have_different_folders() -> None:
    assert parse_name("é" * 240 + "a").folder != parse_name("é" * 240 + "b").folder


def unescape(folder: str) -> str:
    raw = re.sub(rb"%([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), folder.encode())
    return raw.decode("utf-8", "surrogatepass")


@given(st.text(st.characters(exclude_characters="\0", codec=None), min_size=1, max_size=247))
@example("~" + "0" * 64)
@example("A" * 100 + "~" + hashlib.sha256(b"A" * 201).hexdigest())
def test_folder_is_safe_and_tells_names_apart(text: str) -> None:
    key = parse_name(LITERAL + "x" + text[:246]).key[1:] or "X"
    folder = folder_of(key)
    assert re.fullmatch(r"(?!\.)(?:[A-Z0-9._-]|%[0-9A-F]{2})*(?:~[0-9a-f]{64})?", folder)
    assert 0 < len(folder) <= 200
    if "~" in folder:
        # The hash tells it from every other long one, "~" from every short one.
        assert folder.endswith("~" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest())
    else:
        assert unescape(folder) == key  # what can be undone cannot collide


@given(names, names)
def test_two_names_share_a_folder_only_when_they_are_one_pipe(one: str, other: str) -> None:
    first, second = parse_name(LITERAL + one), parse_name(LITERAL + other)
    assert (first.folder == second.folder) == (first == second)


@pytest.mark.parametrize("text", ["\\.\\pipe\\x", "\\\\.\\pipe\nc", "\\.\\pipenx"])
def test_a_name_that_was_not_written_raw_says_so(text: str) -> None:
    with pytest.raises(PipeNameError, match="write it as a raw string"):
        parse_name(text)
