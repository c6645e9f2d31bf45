// CURVE keys (ZeroMQ RFC 26): 32 bytes, written in Z85 (RFC 32) as 40 characters.
// Thread rule: free functions, re-entrant.
#pragma once

#include <optional>
#include <string>

namespace splitee::transport {

struct CurveKeyPair {
  std::string public_key, secret_key;  // Z85
};

// Whether `key` is a Z85 text of 32 bytes.
bool is_curve_key(const std::string& key);

// A new pair; nothing if the ZeroMQ library was built without CURVE.
std::optional<CurveKeyPair> make_curve_keys();

// The public key that belongs to a secret key; nothing if it is no key, or without CURVE.
std::optional<std::string> curve_public_key(const std::string& secret_key);

}  // namespace splitee::transport
