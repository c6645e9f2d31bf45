// libzmq's functions, passed on to the library, which is loaded when the first of them is called:
// it brings fourteen more, and most edges, and every tool, start without a link. Where the library
// is linked itself (the option prefer_static, the Python package) this file is left out. Thread
// rule: any thread. Errors: where the library cannot be loaded the program ends as it does for the
// system's loader: a message, exit status 127.
#include <cstdio>
#include <type_traits>

#include <dlfcn.h>
#include <unistd.h>
#include <zmq.h>

namespace {

constexpr const char* kLibrary = "libzmq.so.5";  // the interface of 4.0 and newer

[[noreturn]] void fail() {
  std::fprintf(stderr, "error while loading shared libraries: %s\n", ::dlerror());
  ::_exit(127);
}

// X(result, name, (parameters), (arguments))
#define SPLITEE_ZMQ_FUNCTIONS(X)                                                                 \
  X(int, zmq_errno, (), ())                                                                      \
  X(const char*, zmq_strerror, (int code), (code))                                               \
  X(void*, zmq_ctx_new, (), ())                                                                  \
  X(int, zmq_ctx_term, (void* context), (context))                                               \
  X(int, zmq_ctx_set, (void* context, int option, int value), (context, option, value))          \
  X(int, zmq_msg_init, (zmq_msg_t * message), (message))                                         \
  X(int, zmq_msg_init_size, (zmq_msg_t * message, size_t size), (message, size))                 \
  X(int, zmq_msg_init_data,                                                                      \
    (zmq_msg_t * message, void* data, size_t size, zmq_free_fn* free, void* hint),               \
    (message, data, size, free, hint))                                                           \
  X(int, zmq_msg_send, (zmq_msg_t * message, void* socket, int flags), (message, socket, flags)) \
  X(int, zmq_msg_recv, (zmq_msg_t * message, void* socket, int flags), (message, socket, flags)) \
  X(int, zmq_msg_close, (zmq_msg_t * message), (message))                                        \
  X(int, zmq_msg_copy, (zmq_msg_t * to, zmq_msg_t * from), (to, from))                           \
  X(void*, zmq_msg_data, (zmq_msg_t * message), (message))                                       \
  X(size_t, zmq_msg_size, (const zmq_msg_t* message), (message))                                 \
  X(int, zmq_msg_more, (const zmq_msg_t* message), (message))                                    \
  X(int, zmq_msg_get, (const zmq_msg_t* message, int property), (message, property))             \
  X(const char*, zmq_msg_gets, (const zmq_msg_t* message, const char* name), (message, name))    \
  X(void*, zmq_socket, (void* context, int type), (context, type))                               \
  X(int, zmq_close, (void* socket), (socket))                                                    \
  X(int, zmq_setsockopt, (void* socket, int option, const void* value, size_t size),             \
    (socket, option, value, size))                                                               \
  X(int, zmq_getsockopt, (void* socket, int option, void* value, size_t* size),                  \
    (socket, option, value, size))                                                               \
  X(int, zmq_bind, (void* socket, const char* address), (socket, address))                       \
  X(int, zmq_connect, (void* socket, const char* address), (socket, address))                    \
  X(int, zmq_send, (void* socket, const void* data, size_t size, int flags),                     \
    (socket, data, size, flags))                                                                 \
  X(int, zmq_socket_monitor, (void* socket, const char* address, int events),                    \
    (socket, address, events))                                                                   \
  X(int, zmq_poll, (zmq_pollitem_t * items, int count, long timeout), (items, count, timeout))   \
  X(char*, zmq_z85_encode, (char* to, const uint8_t* data, size_t size), (to, data, size))       \
  X(uint8_t*, zmq_z85_decode, (uint8_t * to, const char* text), (to, text))                      \
  X(int, zmq_curve_keypair, (char* z85_public, char* z85_secret), (z85_public, z85_secret))      \
  X(int, zmq_curve_public, (char* z85_public, const char* z85_secret), (z85_public, z85_secret))

// All are found at once, so that a first call between a failure and zmq_errno() changes no errno.
struct Library {
#define SPLITEE_MEMBER(result, name, parameters, arguments) decltype(&::name) name##_ = nullptr;
  SPLITEE_ZMQ_FUNCTIONS(SPLITEE_MEMBER)
#undef SPLITEE_MEMBER

  Library() {
    void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) fail();
    const auto find = [library](auto& function, const char* name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
      if (function == nullptr) fail();
    };
#define SPLITEE_FIND(result, name, parameters, arguments) find(name##_, #name);
    SPLITEE_ZMQ_FUNCTIONS(SPLITEE_FIND)
#undef SPLITEE_FIND
  }
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

}  // namespace

extern "C" {
#define SPLITEE_PASS_ON(result, name, parameters, arguments) \
  result name parameters {                                   \
    return library().name##_ arguments;                      \
  }
SPLITEE_ZMQ_FUNCTIONS(SPLITEE_PASS_ON)
#undef SPLITEE_PASS_ON
}
