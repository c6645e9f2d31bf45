// What an endpoint's text says: whether it can be used, who can reach it, its parts.
// Thread rule: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace splitee::transport {

// Of tcp://HOST:PORT; the brackets of an IPv6 address are taken off.
struct TcpEndpoint {
  std::string host, port;
};
// Nothing where it is not of that form.
std::optional<TcpEndpoint> split_tcp(std::string_view endpoint);
// tcp://HOST:PORT, with brackets where the host has colons.
std::string tcp_endpoint(std::string_view host, std::string_view port);
// Of ipc://PATH; nothing for other endpoints.
std::optional<std::string> ipc_path(std::string_view endpoint);

// Whether only this machine can connect to a socket bound to `endpoint`: tcp on 127.0.0.0/8, [::1]
// or localhost, and ipc. Everything else is taken for reachable from outside: wildcards, interface
// names, other addresses and host names, other schemes, and text that is no endpoint.
bool is_loopback_endpoint(std::string_view endpoint);

// Both fail, with an example, on what is not tcp://HOST:PORT or ipc://PATH, and on a port beyond
// 65535, which ZeroMQ would misread without a word (it takes the low 16 bits). Whether HOST exists
// is found out when it is used.
// To connect to: a port from 1 on, and a host.
Status check_endpoint(std::string_view endpoint);
// To listen on: the port may be 0 or *, for a free one, and the host *, for all addresses.
Status check_bind_endpoint(std::string_view endpoint);

}  // namespace splitee::transport
