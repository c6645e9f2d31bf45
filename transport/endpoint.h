// What an endpoint's text says about who can reach it.
// Thread rule: pure function.
#pragma once

#include <string_view>

namespace splitee::transport {

// Whether only this machine can connect to a socket bound to `endpoint`: tcp on 127.0.0.0/8, [::1]
// or localhost, ipc, inproc. Everything else is taken for reachable from outside: wildcards,
// interface names, other addresses and host names, other schemes, and text that is no endpoint.
bool is_loopback_endpoint(std::string_view endpoint);

}  // namespace splitee::transport
