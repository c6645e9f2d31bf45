"""The client's half of CurveZMQ (ZeroMQ RFC 26), by libsodium, rightly and wrongly."""

import ctypes
import ctypes.util
import os
import struct

_path = ctypes.util.find_library("sodium")
sodium = ctypes.CDLL(_path) if _path else None

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def key_of(text):
    """The 32 bytes of a key in Z85."""
    out = b""
    for at in range(0, 40, 5):
        value = 0
        for digit in text[at : at + 5]:
            value = value * 85 + DIGITS.index(digit)
        out += struct.pack(">I", value)
    return out


def key_pair():
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    sodium.crypto_box_keypair(public, secret)
    return public.raw, secret.raw


def box(text, nonce, public, secret):
    assert len(nonce) == 24
    out = ctypes.create_string_buffer(len(text) + 16)
    assert sodium.crypto_box_easy(out, text, ctypes.c_ulonglong(len(text)), nonce, public, secret) == 0
    return out.raw


def open_box(sealed, nonce, public, secret):
    out = ctypes.create_string_buffer(len(sealed) - 16)
    assert sodium.crypto_box_open_easy(out, sealed, ctypes.c_ulonglong(len(sealed)), nonce, public, secret) == 0
    return out.raw


class Client:
    """The commands of one handshake and what follows, made one after the other; keys are 32 bytes."""

    def __init__(self, server_key, public, secret):
        self.server_key, self.public, self.secret = server_key, public, secret
        self.short_public, self.short_secret = key_pair()
        self.nonce = 0

    def next_nonce(self):
        self.nonce += 1
        return struct.pack(">Q", self.nonce)

    def hello(self):
        short = self.next_nonce()
        sealed = box(bytes(64), b"CurveZMQHELLO---" + short, self.server_key, self.short_secret)
        return b"\x05HELLO\1\0" + bytes(72) + self.short_public + short + sealed

    def welcomed(self, welcome):
        """Takes the server's answer to the hello."""
        assert welcome.startswith(b"\x07WELCOME") and len(welcome) == 168, welcome[:20]
        plain = open_box(welcome[24:], b"WELCOME-" + welcome[8:24], self.server_key, self.short_secret)
        self.server_short, self.cookie = plain[:32], plain[32:]

    def initiate(self, metadata):
        random = os.urandom(16)
        vouch = box(self.short_public + self.server_key, b"VOUCH---" + random, self.server_short, self.secret)
        short = self.next_nonce()
        sealed = box(self.public + random + vouch + metadata, b"CurveZMQINITIATE" + short, self.server_short, self.short_secret)
        return b"\x08INITIATE" + self.cookie + short + sealed

    def message(self, data, flags=0):
        short = self.next_nonce()
        sealed = box(bytes([flags]) + data, b"CurveZMQMESSAGEC" + short, self.server_short, self.short_secret)
        return b"\x07MESSAGE" + short + sealed


def metadata(*pairs):
    return b"".join(bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in pairs)
