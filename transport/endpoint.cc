#include "transport/endpoint.h"

#include <string>

#include <arpa/inet.h>

namespace splitee::transport {

bool is_loopback_endpoint(std::string_view endpoint) {
  if (endpoint.starts_with("ipc://") || endpoint.starts_with("inproc://")) return true;
  constexpr std::string_view kTcp = "tcp://";
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

}  // namespace splitee::transport
