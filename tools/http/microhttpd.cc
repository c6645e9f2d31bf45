#include "tools/http/microhttpd.h"

#include <string>

#include <dlfcn.h>

namespace splitee::tools {
namespace {

constexpr const char* kLibrary = "libmicrohttpd.so.12";  // the interface of 0.9.71 and newer

Result<const Microhttpd*> load() {
  void* library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Status(Code::kUnsupported, std::string("HTTP needs libmicrohttpd: ") + ::dlerror());
  }
  static Microhttpd found;
  const char* missing = nullptr;
  const auto find = [&](auto& function, const char* name) {
    function =
        reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
    if (function == nullptr) missing = name;
  };
  find(found.start_daemon, "MHD_start_daemon");
  find(found.stop_daemon, "MHD_stop_daemon");
  find(found.quiesce_daemon, "MHD_quiesce_daemon");
  find(found.get_daemon_info, "MHD_get_daemon_info");
  find(found.get_connection_info, "MHD_get_connection_info");
  find(found.lookup_connection_value, "MHD_lookup_connection_value");
  find(found.get_connection_values_n, "MHD_get_connection_values_n");
  find(found.suspend_connection, "MHD_suspend_connection");
  find(found.resume_connection, "MHD_resume_connection");
  find(found.create_response_from_buffer, "MHD_create_response_from_buffer");
  find(found.add_response_header, "MHD_add_response_header");
  find(found.queue_response, "MHD_queue_response");
  find(found.destroy_response, "MHD_destroy_response");
  if (missing != nullptr) {
    return Status(Code::kUnsupported, std::string(kLibrary) + " has no " + missing);
  }
  return &found;
}

}  // namespace

Result<const Microhttpd*> load_microhttpd() {
  static const Result<const Microhttpd*> loaded = load();
  return loaded;
}

}  // namespace splitee::tools
