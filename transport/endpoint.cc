#include "transport/endpoint.h"

#include <charconv>
#include <cstdint>
#include <string>

#include <arpa/inet.h>

namespace splitee::transport {
namespace {

constexpr std::string_view kTcp = "tcp://", kIpc = "ipc://", kInproc = "inproc://";

}  // namespace

bool is_loopback_endpoint(std::string_view endpoint) {
  if (endpoint.starts_with(kIpc) || endpoint.starts_with(kInproc)) return true;
  if (!endpoint.starts_with(kTcp)) return false;
  endpoint.remove_prefix(kTcp.size());
  const std::size_t colon = endpoint.rfind(':');
  if (colon == std::string_view::npos) return false;
  const std::string host(endpoint.substr(0, colon));
  if (host == "localhost" || host == "[::1]") return true;
  in_addr address;
  if (inet_pton(AF_INET, host.c_str(), &address) != 1) return false;
  return (ntohl(address.s_addr) >> 24) == 127;
}

runtime::Status check_endpoint(std::string_view endpoint) {
  for (const std::string_view scheme : {kIpc, kInproc}) {
    if (endpoint.starts_with(scheme) && endpoint.size() > scheme.size()) return {};
  }
  const std::size_t colon = endpoint.rfind(':');
  if (!endpoint.starts_with(kTcp) || colon == std::string_view::npos || colon <= kTcp.size() ||
      colon + 1 == endpoint.size()) {
    std::string message = "'";
    message += endpoint;
    message += "' is not an endpoint such as tcp://127.0.0.1:5555 or ipc:///run/splitee";
    return {runtime::Code::kInvalidArgument, message};
  }
  const std::string_view port = endpoint.substr(colon + 1);
  std::uint16_t number;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (port == "*" || (error == std::errc() && end == port.data() + port.size())) return {};
  return {runtime::Code::kInvalidArgument, std::string(endpoint) + ": no such port"};
}

}  // namespace splitee::transport
