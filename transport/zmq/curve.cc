#include "transport/zmq/curve.h"

#include <array>

#include <zmq.h>

#include "transport/zmq/socket.h"

namespace splitee::transport {

namespace {

constexpr std::size_t kKeyTextBytes = 41;  // with the terminating zero

}  // namespace

bool is_curve_key(const std::string& key) {
  return decode_curve_key(key).has_value();
}

std::optional<CurveKeyPair> make_curve_keys() {
  std::array<char, kKeyTextBytes> public_key{}, secret_key{};
  if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0) return std::nullopt;
  return CurveKeyPair{public_key.data(), secret_key.data()};
}

std::optional<std::string> curve_public_key(const std::string& secret_key) {
  std::array<char, kKeyTextBytes> public_key{};
  if (!is_curve_key(secret_key)) return std::nullopt;
  if (zmq_curve_public(public_key.data(), secret_key.c_str()) != 0) return std::nullopt;
  return std::string(public_key.data());
}

}  // namespace splitee::transport
