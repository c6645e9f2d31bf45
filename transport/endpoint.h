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

// Fails, with an example, on what is not tcp://HOST:PORT, ipc://PATH or inproc://NAME, and on a
// port beyond 65535, which ZeroMQ would misread without a word (it takes the low 16 bits). What
// HOST is ZeroMQ finds out.
runtime::Status check_endpoint(std::string_view endpoint);

}  // namespace splitee::transport
