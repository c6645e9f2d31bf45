// The functions of libmicrohttpd that the listener calls, found when it first asks for them: with
// the library come GnuTLS and ten more, a fifth of the time in which an edge without HTTP starts.
// Thread rule: load_microhttpd() by any thread; what it gives lasts until the program ends. Errors:
// the library is not installed.
#pragma once

#include <microhttpd.h>

#include "base/status.h"

namespace splitee::tools {

struct Microhttpd {
  decltype(&MHD_start_daemon) start_daemon;
  decltype(&MHD_stop_daemon) stop_daemon;
  decltype(&MHD_quiesce_daemon) quiesce_daemon;
  decltype(&MHD_get_daemon_info) get_daemon_info;
  decltype(&MHD_get_connection_info) get_connection_info;
  decltype(&MHD_lookup_connection_value) lookup_connection_value;
  decltype(&MHD_get_connection_values_n) get_connection_values_n;
  decltype(&MHD_suspend_connection) suspend_connection;
  decltype(&MHD_resume_connection) resume_connection;
  decltype(&MHD_create_response_from_buffer) create_response_from_buffer;
  decltype(&MHD_add_response_header) add_response_header;
  decltype(&MHD_queue_response) queue_response;
  decltype(&MHD_destroy_response) destroy_response;
};

Result<const Microhttpd*> load_microhttpd();

}  // namespace splitee::tools
