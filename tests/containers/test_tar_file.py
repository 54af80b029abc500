"""Tar files: every member is where the table says, and damage is told, never passed over."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.containers import ContainerError, MemberPath, MemberReader, TarFile, nearest_member, read_member
from tests.packed import write_tar

MEMBERS = {"a/1.jpg": b"one", "a/2.jpg": b"", "b/" + "x" * 180 + ".jpg": b"three" * 200}
NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=120).filter(
    lambda name: name not in (".", "..")
)
LIMIT = 1 << 20


def names_of(path: Path) -> list[str]:
    tar = TarFile(str(path))
    try:
        return list(tar.names)
    finally:
        tar.close()


def refused(path: Path) -> str:
    with pytest.raises(ContainerError) as caught:
        names_of(path)
    return str(caught.value)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8), st.sampled_from(["PAX_FORMAT", "GNU_FORMAT"]))
def test_every_member_reads_as_it_was_written(tmp_path_factory, members, kind):
    """Whatever its name and length, a member's bytes are those that were packed, in either format of long names."""
    path = write_tar(tmp_path_factory.mktemp("tar") / "a.tar", members, format=getattr(tarfile, kind))
    with MemberReader() as reader:
        assert names_of(path) == list(members)
        for name, data in members.items():
            assert reader.read(MemberPath(str(path), name), LIMIT) == data


def test_a_tar_of_the_shell_has_names_without_a_dot(tmp_path):
    """`tar -C folder .` begins every name with `./`, which is no part of a key."""
    assert names_of(write_tar(tmp_path / "a.tar", {"./a/1.jpg": b"x"})) == ["a/1.jpg"]


def test_a_misspelt_member_is_near_one_that_is_there(tmp_path):
    """The path of the member that is meant, as it is typed; None where none is near, or the tar cannot be read."""
    path = str(write_tar(tmp_path / "a.tar", {"train/00001.jpg": b"", "train/00001.cls": b"", "x.jpg": b""}))
    assert nearest_member(MemberPath(path, "train/0001.jpg")) == f"{path}#train/00001.jpg"
    assert nearest_member(MemberPath(path, "elephants")) is None
    assert nearest_member(MemberPath(f"{path}.tar", "x")) is None


@pytest.mark.parametrize("left", [0.3, 0.6, 0.95])
def test_a_tar_that_is_cut_off_is_refused(tmp_path, left):
    """Wherever it ends, in a header, in a member, or between two, the images behind are not silently lost."""
    path = write_tar(tmp_path / "a.tar", {f"{number}.jpg": b"x" * 700 for number in range(9)})
    end = 9 * (512 + 1024)
    for size in {int(end * left), int(end * left) // 512 * 512, int(end * left) // 1536 * 1536}:
        data = path.read_bytes()[:size]
        (tmp_path / "cut.tar").write_bytes(data)
        assert "cut off" in refused(tmp_path / "cut.tar")


def test_damage_in_a_header_is_refused(tmp_path):
    """A header that does not match its checksum ends the table of contents, so the tar is refused, with the place."""
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"x", "2.jpg": b"y"})
    data = bytearray(path.read_bytes())
    data[1024 + 20] ^= 1
    path.write_bytes(data)
    assert refused(path) == "damaged or cut off behind 1.jpg: what follows is no header"


def test_joined_tars_are_refused(tmp_path):
    """What stands behind the end mark would be read by nobody."""
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"x"})
    path.write_bytes(path.read_bytes()[: 4 * 512] + write_tar(tmp_path / "b.tar", {"2.jpg": b"y"}).read_bytes())
    assert "goes on behind its end mark" in refused(path)


@pytest.mark.parametrize("data", [b"", b"no tar at all", b"\x1f\x8b" + b"\0" * 700, os.urandom(2048)])
def test_what_is_no_tar_is_refused(tmp_path, data):
    """An empty file, text, gzip and noise named .tar are refused."""
    (tmp_path / "a.tar").write_bytes(data)
    assert "no tar file" in refused(tmp_path / "a.tar")


def test_a_header_cannot_take_memory(tmp_path):
    """A long name that declares 8 GB of itself is refused before any of it is read."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(9 << 30)  # sparse: it is there, and takes no room
    assert "declares 8,589,934,592 bytes of itself" in refused(tmp_path / "a.tar")


def test_a_member_of_a_negative_size_leads_nowhere(tmp_path):
    """A size below 0 that leads back to an earlier header is refused: its members would be read without an end."""
    first, second, third = (tarfile.TarInfo(f"{number}.jpg") for number in (1, 2, 3))
    third.size = -1024  # back to the second header
    headers = b"".join(member.tobuf(tarfile.GNU_FORMAT) for member in (first, second, third))
    (tmp_path / "a.tar").write_bytes(headers + b"\0" * 1024)
    assert "behind 2.jpg: the header of 3.jpg declares -1,024 bytes" in refused(tmp_path / "a.tar")


def test_links_and_names_that_lead_out_are_no_members(tmp_path):
    """Links, devices, absolute names and `..` are named, and reading one is refused; nothing is ever unpacked."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        for name in ("/etc/x.jpg", "../up.jpg", "a/../../up.jpg", "good.jpg"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    tar_file = TarFile(str(path))
    assert list(tar_file.names) == ["good.jpg"]
    assert list(tar_file.links) == ["link.jpg", "hard.jpg", "pipe.jpg"]
    assert list(tar_file.unsafe) == ["/etc/x.jpg", "../up.jpg", "a/../../up.jpg"]
    tar_file.close()
    with pytest.raises(OSError, match="no such member"):
        read_member(MemberPath(str(path), "../up.jpg"), LIMIT)
    assert [name.name for name in tmp_path.iterdir()] == ["a.tar"]


def test_two_members_of_one_name_are_told(tmp_path):
    """The first one counts for reading; the listing refuses the tar."""
    tar = TarFile(str(write_tar(tmp_path / "a.tar", [("1.jpg", b"x"), ("1.jpg", b"y"), ("1.jpg", b"z")])))
    assert (list(tar.names), list(tar.repeated)) == (["1.jpg"], ["1.jpg"])
    tar.close()


def test_a_member_that_is_too_large_is_not_read(tmp_path):
    """The size in its header is held against the limit first."""
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    with pytest.raises(OSError, match="1,000 bytes: larger than any supported image"):
        read_member(MemberPath(str(path), list(MEMBERS)[2]), 999)


def test_a_reader_sees_a_container_that_was_replaced(tmp_path):
    """A tar of the same name is opened anew, and its table with it."""
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"old"})
    with MemberReader() as reader:
        assert reader.read(MemberPath(str(path), "1.jpg"), LIMIT) == b"old"
        write_tar(tmp_path / "b.tar", {"0.jpg": b"first", "1.jpg": b"new"}).replace(path)
        assert reader.read(MemberPath(str(path), "1.jpg"), LIMIT) == b"new"


def test_a_pipe_is_not_waited_for(tmp_path):
    """A FIFO named .tar is refused at once."""
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(OSError, match="a pipe"):
        TarFile(str(tmp_path / "a.tar"))
