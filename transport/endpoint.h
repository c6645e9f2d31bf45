// What an endpoint's text says about who can reach it.
// Thread rule: pure functions.
#pragma once

#include <string_view>

#include "runtime/status.h"

namespace splitee::transport {

// Whether only this machine can connect to a socket bound to `endpoint`: tcp on 127.0.0.0/8, [::1]
// or localhost, ipc, inproc. Everything else is taken for reachable from outside: wildcards,
// interface names, other addresses and host names, other schemes, and text that is no endpoint.
bool is_loopback_endpoint(std::string_view endpoint);

// Finds what ZeroMQ would misread without a word: a tcp port beyond 65535 (it takes the low 16
// bits). Everything else it checks itself.
runtime::Status check_port(std::string_view endpoint);

}  // namespace splitee::transport
