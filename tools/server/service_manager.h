// What a service manager wants to know: sd_notify(3)'s protocol without its library.
// Thread rule: re-entrant.
#pragma once

#include <string_view>

namespace splitee::tools {

// Sends e.g. "READY=1" to the socket that $NOTIFY_SOCKET names; does nothing where there is none.
void notify_service_manager(std::string_view state);

}  // namespace splitee::tools
