"""Every option is checked, and the error names the wrong one and the valid values."""

from __future__ import annotations

import math
from contextvars import ContextVar
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamacache.errors import CodecError, ConfigError, KamaCacheError
from kamacache.net.security import TLS, Protection
from kamacache.options import GroupOptions, NodeOptions
from kamacache.units import UNSET, check_name, parse_duration, parse_size, parse_ttl
from kamacache.value import Value

USER: ContextVar[str] = ContextVar("user")


class TestDurations:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (0, 0.0),
            (5, 5.0),
            (0.25, 0.25),
            (timedelta(minutes=2), 120.0),
            (Decimal("1.5"), 1.5),
            (Fraction(1, 4), 0.25),
            ("500ms", 0.5),
            ("1h30m", 5400.0),
            ("1.5s", 1.5),
            ("10", 10.0),
            ("0.5", 0.5),
            ("2d", 172800.0),
            ("1d2h3m4s5ms", 93784.005),
            (" 1h 30m ", 5400.0),
            ("7m", 420.0),
            ("7ms", 0.007),
            ("1 s", 1.0),
        ],
    )
    def test_read(self, value: Any, seconds: float) -> None:
        assert parse_duration(value, name="ttl") == seconds
        assert type(parse_duration(value, name="ttl")) is float

    @pytest.mark.parametrize(
        "value",
        [
            *(
                None,
                True,
                False,
                1j,
                Decimal("sNaN"),
                math.nan,
                math.inf,
                -math.inf,
                -1,
                -0.001,
                timedelta(seconds=-1),
                [],
                b"5s",
            ),
            *("", " ", "s", "-5s", "5 parsecs", "5S", "1h 1h", "30m1h", "1e3", "nan", "inf", "1..5s", ".5s", "5,5s"),
            *("٣s", "1_000", "5s!", "\n"),
        ],
    )
    def test_refused(self, value: Any) -> None:
        with pytest.raises(ConfigError, match=r"near_ttl=.*duration") as caught:
            parse_duration(value, name="near_ttl")
        assert repr(value) in str(caught.value)

    @pytest.mark.parametrize("value", [10**12, timedelta.max, "9" * 90, 1e300, "40000d"])
    def test_very_long_ones_are_cut_to_the_range_of_clocks(self, value: Any) -> None:
        assert parse_duration(value, name="ttl") == 100 * 365 * 86400

    @pytest.mark.parametrize("value", [10**5000, "9" * 5000], ids=["number", "text"])
    def test_absurd_ones_are_refused_in_a_short_text(self, value: Any) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_duration(value, name="ttl")
        assert len(str(caught.value)) < 400

    @given(st.floats(min_value=0, max_value=1e6) | st.integers(0, 10**9))
    def test_numbers_are_seconds(self, value: float) -> None:
        assert parse_duration(value, name="ttl") == value

    @given(st.text())
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            assert parse_duration(text, name="ttl") >= 0
        except ConfigError:
            assert not text.isascii() or not text.isdigit()

    def test_ttl(self) -> None:
        assert parse_ttl(None, name="ttl") is None
        assert parse_ttl("1m", name="ttl") == 60
        for value in (0, "0s", 0.0, timedelta(0)):
            with pytest.raises(ConfigError, match="None means"):
                parse_ttl(value, name="ttl")


class TestSizes:
    @pytest.mark.parametrize(
        ("value", "size"),
        [
            (0, 0),
            (4096, 4096),
            ("64 MiB", 64 * 2**20),
            ("1.5 MiB", 3 * 2**19),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("2 MB", 2_000_000),
            ("3GB", 3 * 10**9),
            ("1 GiB", 2**30),
            ("17 B", 17),
            ("4096", 4096),
            ("0.0001 KiB", 0),
        ],
    )
    def test_read(self, value: Any, size: int) -> None:
        assert parse_size(value, name="max_bytes") == size

    @pytest.mark.parametrize(
        "value",
        [None, True, 1.5, math.nan, -1, "", "MiB", "-1 KB", "64 mb", "64 M", "1 TB", "1e3 B", "1 2 B", b"1", "٣ B"],
    )
    def test_refused(self, value: Any) -> None:
        with pytest.raises(ConfigError, match=r"max_value=.*size"):
            parse_size(value, name="max_value")

    @given(st.integers(0, 10**6), st.sampled_from(["", " "]))
    def test_units(self, n: int, gap: str) -> None:
        factors = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        for unit, factor in factors.items():
            assert parse_size(f"{n}{gap}{unit}", name="x") == n * factor


class TestNames:
    @pytest.mark.parametrize("name", ["a", "users", "A-1_b.c", "x" * 64, "."])
    def test_good(self, name: str) -> None:
        assert check_name(name, what="group") is name

    @pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "é", "a\n", "a:b", None, 5, b"a"])
    def test_bad(self, name: Any) -> None:
        with pytest.raises(ConfigError, match="group name"):
            check_name(name, what="group")


class TestGroupOptions:
    def test_defaults(self) -> None:
        options = GroupOptions.make()
        assert (options.max_bytes, options.ttl, options.policy) == (64 * 2**20, None, "s3fifo")
        assert (options.near_ttl, options.negative_ttl, options.jitter) == (5.0, 5.0, 0.05)
        assert (options.load_timeout, options.on_evict) == (30.0, None)
        assert (options.max_batch, options.batch_window, options.concurrency) == (500, None, None)

    @pytest.mark.parametrize(
        ("option", "value", "says"),
        [
            ("max_bytes", None, "64 MiB"),
            ("max_bytes", 4095, "4 KiB"),
            ("max_bytes", "much", "size"),
            ("ttl", 0, "None means"),
            ("ttl", -1, "duration"),
            ("ttl", True, "duration"),
            ("policy", "fifo", "s3fifo, lru, lru2"),
            ("policy", None, "s3fifo"),
            ("policy", [], "s3fifo"),
            ("codec", "xml", "msgpack"),
            ("near_ttl", None, "write 0"),
            ("near_ttl", -1, "duration"),
            ("negative_ttl", None, "write 0"),
            ("negative_ttl", "x", "duration"),
            ("jitter", 1, "below 1"),
            ("jitter", -0.1, "below 1"),
            ("jitter", math.nan, "below 1"),
            ("jitter", True, "below 1"),
            ("jitter", "0.1", "below 1"),
            ("load_timeout", 0, "None waits"),
            ("load_timeout", "soon", "duration"),
            ("on_evict", "print", "function"),
            ("max_batch", 0, "1 to 1000000"),
            ("max_batch", None, "1 to 1000000"),
            ("batch_window", -1, "duration"),
            ("concurrency", 0, "1 to 1024"),
            ("concurrency", True, "1 to 1024"),
        ],
    )
    def test_bad_ones_are_named(self, option: str, value: Any, says: str) -> None:
        with pytest.raises(ConfigError, match=f"{option}=.*{says}"):
            GroupOptions.make(**{option: value})

    def test_the_limits_themselves_are_fine(self) -> None:
        options = GroupOptions.make(max_bytes="4 KiB", near_ttl=0, negative_ttl=0, jitter=0, load_timeout=None)
        assert (options.max_bytes, options.near_ttl, options.negative_ttl) == (4096, 0.0, 0.0)
        assert (options.jitter, options.load_timeout) == (0.0, None)
        options = GroupOptions.make(max_batch=1, batch_window=0, concurrency=1)
        assert (options.max_batch, options.batch_window, options.concurrency) == (1, 0.0, 1)

    def test_equal_when_they_mean_the_same(self) -> None:
        def remade() -> Any:
            def on_evict(key: str, value: Any, reason: str) -> None:
                pass

            class Codec:
                shareable = False

                def encode(self, value: Any, /) -> bytes:
                    return b""

                def decode(self, data: bytes, /) -> Any:
                    return 1

            return GroupOptions.make(ttl="1m", max_bytes="1 MiB", codec=Codec(), on_evict=on_evict)

        assert not remade().differences(remade())
        assert not GroupOptions.make(ttl=60).differences(GroupOptions.make(ttl="1m"))
        assert GroupOptions.make().differences(GroupOptions.make(codec="json"))
        one, two = GroupOptions.make(ttl=60, codec="text"), GroupOptions.make(ttl=30, codec="json")
        assert one.differences(two) == ["ttl: 60.0, 30.0", "codec: 'text', 'json'"]


class TestNodeOptions:
    def test_defaults(self) -> None:
        assert NodeOptions.make() == NodeOptions(None, None, None, "kamacache", 1.0, 4 * 2**20, 32, 10_000, False)

    @pytest.mark.parametrize(
        "listen",
        ["127.0.0.1:8001", "127.9.9.9:0", "localhost:1", "[::1]:8001", "[::ffff:127.0.0.1]:1", "unix:/run/app.sock"],
    )
    def test_this_machine_needs_no_leave(self, listen: str) -> None:
        assert NodeOptions.make(listen).listen == listen

    @pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:8001", "10.0.0.1:8001", "example.org:80"])
    def test_beyond_it_only_on_request(self, listen: str) -> None:
        with pytest.raises(ConfigError, match="insecure=True"):
            NodeOptions.make(listen)
        assert NodeOptions.make(listen, insecure=True).listen == listen

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("listen", bad) for bad in ("", "8001", ":8001", "h:65536", "h:-1", "h:x", "h", "::1:8001", "[::1]")),
            *(("listen", bad) for bad in ("[1.2.3.4]:1", "[zz]:1", "h h:1", "1.2.3:1", "unix:app.sock", "unix:/a/")),
            *(("listen", bad) for bad in ("unix:/a\0b", "unix:/" + "x" * 120, 8001, ("h", 1), "256.1.1.1:5")),
            *(("advertise", bad) for bad in ("h", "h:0", "0.0.0.0:1", "[::]:1", "unix:/run/app.sock", 5)),
            *(("weight", bad) for bad in (0, -1, 1e-308, 1e308, math.nan, math.inf, True, "2", None, 10**400)),
            *(("max_value", bad) for bad in (0, "big", "2 GiB", None)),
            *(("max_bytes", bad) for bad in (65_535, "4 KiB", "big", 2**63, True)),
            *(("loader_threads", bad) for bad in (0, 1025, 1.5, True, "8", None)),
            *(("loader_queue", bad) for bad in (0, 1_000_001, 1.5, True, "8", None)),
            *(("service", bad) for bad in ("", "a/b", None)),
            *(("insecure", bad) for bad in ("yes", 1, None)),
            *(("password", bad) for bad in ("", "a b", 5)),
            *(("context", bad) for bad in (None, "user", 5, USER, [USER, "user"], [USER, USER])),
            *(("context", [ContextVar(bad)]) for bad in ("", "a\n", "\ud800", "x" * 256)),
        ],
    )
    def test_bad_ones_are_named(self, option: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=option):
            NodeOptions.make(**{option: value})

    def test_secrets_are_not_shown(self) -> None:
        for option in ("tls", "password"):
            with pytest.raises(ConfigError, match=option) as caught:
                NodeOptions.make(**{option: "hunter 2"})  # type: ignore[arg-type]
            assert "hunter" not in str(caught.value)


class TestEnvironment:
    def test_everything(self) -> None:
        options = NodeOptions.from_env(
            {
                "KAMACACHE_LISTEN": "0.0.0.0:8001",
                "KAMACACHE_ADVERTISE": "10.0.0.1:8001",
                "KAMACACHE_REGISTRY": "local://",
                "KAMACACHE_SERVICE": "shop",
                "KAMACACHE_WEIGHT": "2.5",
                "KAMACACHE_MAX_VALUE": "1 MiB",
                "KAMACACHE_LOADER_THREADS": "8",
                "KAMACACHE_LOADER_QUEUE": "9",
                "KAMACACHE_INSECURE": "Yes",
                "KAMACACHE_SOMETHING_ELSE": "x",
                "PATH": "/bin",
            }
        )
        assert options == NodeOptions("0.0.0.0:8001", "10.0.0.1:8001", "local://", "shop", 2.5, 2**20, 8, 9, True)

    def test_nothing_or_empty_is_the_default(self) -> None:
        names = (
            "LISTEN",
            "REGISTRY",
            "SERVICE",
            "WEIGHT",
            "LOADER_THREADS",
            "LOADER_QUEUE",
            "INSECURE",
            "PASSWORD",
            "TLS",
        )
        assert NodeOptions.from_env({}) == NodeOptions.make()
        assert NodeOptions.from_env({f"KAMACACHE_{name}": "" for name in names}) == NodeOptions.make()

    def test_spaces_around_values_do_not_matter(self) -> None:
        given = {"LISTEN": "127.0.0.1:8001", "REGISTRY": "local://", "SERVICE": "shop", "WEIGHT": "2", "INSECURE": "1"}
        spaced = {f"KAMACACHE_{name}": f" {text}\n" for name, text in given.items()}
        plain = {f"KAMACACHE_{name}": text for name, text in given.items()}
        assert NodeOptions.from_env(spaced) == NodeOptions.from_env(plain)
        assert NodeOptions.from_env({"KAMACACHE_ADVERTISE": " ", "KAMACACHE_TLS_CERT": " "}) == NodeOptions.make()

    def test_defaults_give_way_to_it(self) -> None:
        tls = TLS("/cert", "/key", "/ca")
        variables = {"KAMACACHE_SERVICE": "shop", "KAMACACHE_WEIGHT": "2", "KAMACACHE_REGISTRY": " "}
        options = NodeOptions.from_env(variables, registry="local://", service="app", max_value=100, tls=tls)
        assert options == NodeOptions.make(registry="local://", service="shop", weight=2.0, max_value=100, tls=tls)
        files = {f"KAMACACHE_TLS_{name}": f"/{name}" for name in ("CERT", "KEY", "CA")}
        assert NodeOptions.from_env(files, tls=tls).protection.tls == TLS("/CERT", "/KEY", "/CA")

    def test_alone_in_spite_of_defaults(self) -> None:
        assert NodeOptions.from_env({"KAMACACHE_REGISTRY": "none"}, registry="local://").registry is None

    def test_a_password_in_a_file(self, tmp_path: Path) -> None:
        """Read a password from a file, as secrets are mounted; the file comes before the variable."""
        file = tmp_path / "password"
        file.write_text("hunter2\n")
        variables = {"KAMACACHE_PASSWORD_FILE": f" {file} ", "KAMACACHE_PASSWORD": "other"}
        assert NodeOptions.from_env(variables).protection == Protection.make("hunter2", None)
        for content in (b"", b"hunter 2", b"hunter\xff"):
            file.write_bytes(content)
            with pytest.raises(ConfigError, match=r"KAMACACHE_.*password") as caught:
                NodeOptions.from_env(variables)
            assert "hunter" not in str(caught.value)
        file.unlink()
        with pytest.raises(ConfigError, match=f"{file}: No such file"):
            NodeOptions.from_env(variables)

    def test_defaults_are_checked(self) -> None:
        with pytest.raises(ConfigError, match=r"or the arguments: loader_threads"):
            NodeOptions.from_env({}, loader_threads=0)
        with pytest.raises(TypeError, match="servcie"):
            NodeOptions.from_env({}, servcie="shop")

    @pytest.mark.parametrize("text", ["0", "false", "no", "OFF"])
    def test_flags_can_be_off(self, text: str) -> None:
        assert NodeOptions.from_env({"KAMACACHE_INSECURE": text}).insecure is False

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("LISTEN", "nowhere"),
            ("WEIGHT", "heavy"),
            ("WEIGHT", "nan"),
            ("LOADER_THREADS", "2.5"),
            ("LOADER_QUEUE", "many"),
            ("INSECURE", "maybe"),
            ("MAX_VALUE", "big"),
            ("SERVICE", "a b"),
            ("PASSWORD", "hunter 2"),
            ("TLS", "1"),
            ("TLS_CERT", "/cert.pem"),
        ],
    )
    def test_bad_ones_name_their_variable(self, name: str, text: str) -> None:
        with pytest.raises(ConfigError, match="KAMACACHE_"):
            NodeOptions.from_env({f"KAMACACHE_{name}": text})


class TestValue:
    def test_ttl(self) -> None:
        assert Value(b"x").ttl is UNSET
        assert Value(b"x", ttl=None).ttl is None
        assert Value(b"x", ttl="10s").ttl == 10.0
        assert Value(b"x", 5) == Value(b"x", timedelta(seconds=5))
        assert repr(Value(1)) == "Value(value=1, ttl=UNSET)"

    @pytest.mark.parametrize("ttl", [0, -0.5, -(10**30), "0s", timedelta(seconds=-3), Decimal(-1)])
    def test_a_ttl_that_has_run_out(self, ttl: Any) -> None:
        assert Value(b"x", ttl).ttl == 0.0

    @pytest.mark.parametrize("ttl", ["-1s", "soon", True, False, math.nan, -math.inf, b"1"])
    def test_bad_ttl(self, ttl: Any) -> None:
        with pytest.raises(ConfigError, match="ttl="):
            Value(b"x", ttl)

    def test_it_does_not_change(self) -> None:
        with pytest.raises(AttributeError):
            Value(1).value = 2


def test_config_errors_are_value_errors() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, KamaCacheError)
    assert not issubclass(ConfigError, CodecError)
