/* splitee in C: multi-exit networks, the policies that decide how deep to compute, and the link to
 * a splitee-server, behind opaque handles. C99 and later, C++ too.
 *
 *   splitee_model   a model file, open        splitee_engine  runs one sample at a time
 *   splitee_policy  decides, and learns       splitee_client  sends samples to servers
 *   splitee_edge    all of these together: what the program splitee-edge does
 *
 * Results. Every function but splitee_last_error() and splitee_free() returns one of enum
 * splitee_result; what it was asked for comes through pointers, which are left as they are where it
 * fails (buffers may have been written to). No exception leaves the library, and nothing is
 * printed. Sizes that do not fit, null pointers and calls out of order are SPLITEE_INVALID.
 *
 * Threads. A model may be used by any number of threads at once. Any other handle: by one thread at
 * a time, which need not be the one that made it; a policy or a client that an edge was given
 * belongs to the edge's turn. Different handles do not disturb each other. A fork()ed child must
 * not use handles made before.
 *
 * Ownership. What a create or open function gives out is ended by splitee_free(), in any order: who
 * needs another handle keeps it alive. Strings and arrays in what is given out are the library's,
 * and live as long as it says there. What is passed in is not needed any more once the call
 * returns, but for the callbacks and the `user` of splitee_policy_create().
 *
 * Structures begin with their size, to be set by the caller (x.struct_size = sizeof x) before any
 * call, so that later versions can append fields. Set the rest to zero.
 *
 * Options are strings "name=value", or "name" for what is on or off, in an array that ends with
 * NULL (or NULL for none): the flags of the program splitee-edge, or of `splitee replay`, without
 * their dashes. `splitee-edge --help` names all of them, with units and defaults.
 *
 * Exits and classes count from 0, layers from 1; layer 0 is the input. Matrices are (rows, cols),
 * row major. Times are microseconds unless a name says otherwise. Strings are UTF-8. */
#ifndef SPLITEE_H
#define SPLITEE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SPLITEE_API __attribute__((visibility("default")))
#else
#define SPLITEE_API
#endif

typedef struct splitee_model splitee_model;
typedef struct splitee_engine splitee_engine;
typedef struct splitee_policy splitee_policy;
typedef struct splitee_client splitee_client;
typedef struct splitee_edge splitee_edge;

enum splitee_result {
  SPLITEE_OK = 0,
  SPLITEE_INVALID = 1,     /* an argument, an option or the order of calls is wrong */
  SPLITEE_NOT_FOUND = 2,   /* a file, a column, a name is not there */
  SPLITEE_CORRUPT = 3,     /* bytes that break their format */
  SPLITEE_UNSUPPORTED = 4, /* well formed, but not for this library or this network */
  SPLITEE_IO = 5,          /* the operating system said no */
  SPLITEE_MEMORY = 6,      /* none left */
  SPLITEE_INTERNAL = 7,    /* a fault of this library */
  SPLITEE_TOO_SMALL = 8,   /* a buffer; the size wanted was told */
  SPLITEE_CALLBACK = 9,    /* a function of the caller failed, or answered what makes no sense */
  SPLITEE_NO_ANSWER = 10,  /* no server answered in time; not an error of this side */
  SPLITEE_FULL = 11,       /* an edge has as many samples in progress as its window allows */
  SPLITEE_NONE = 12        /* an edge has no record for now */
};

/* What went wrong in the last call of this thread that did not return SPLITEE_OK: which file,
 * field, option or peer. Never NULL; valid until this thread's next call. */
SPLITEE_API const char* splitee_last_error(void);

/* Ends any handle; NULL is nothing. An edge saves its state first, where it has the option `state`.
 */
SPLITEE_API void splitee_free(void* handle);

/* ---- models ---- */

/* Opens and checks a model file (GGUF). Options: target (kernels to use; default: $SPLITEE_TARGET,
 * else the best that this CPU has), preload (layers to read at once instead of when they are first
 * needed: a number, or "all"; default 1), check-model (the whole file is checked now; without it, a
 * file that has sums of its blocks is checked as it is read, others are checked now all the same).
 */
SPLITEE_API int splitee_model_open(const char* path, const char* const* options,
                                   splitee_model** model);

enum splitee_input_kind { SPLITEE_TEXT = 1, SPLITEE_NUMBERS = 2, SPLITEE_IMAGE = 3 };

/* What the numbers of an exit are: probabilities of classes that exclude each other; of labels that
 * do not; one number. Only the first has a confidence, which policies need. */
enum splitee_output { SPLITEE_CLASSES = 0, SPLITEE_LABELS = 1, SPLITEE_VALUE = 2 };

typedef struct splitee_model_info {
  size_t struct_size;
  uint64_t hash;            /* of the file's content: both ends of a link must have the same */
  const char* library;      /* version of the library, "0.1.0" */
  const char* architecture; /* kind of network, as the file says */
  const char* dtype;        /* of the weights: f32, f16, bf16, i8 */
  const char* target;       /* the kernels in use */
  int input;                /* enum splitee_input_kind */
  int output;               /* enum splitee_output */
  int pairs;                /* 1: takes pairs of texts */
  size_t layers, exits, classes;
  const size_t* exit_layers;  /* (exits), ascending; the last one is `layers` */
  const char* const* labels;  /* (classes) */
  size_t numbers;             /* of a row, where rows of numbers are taken; else 0 */
  const char* const* columns; /* (numbers) their names; NULL where the file has none */
  size_t max_length;          /* of an input, in units: of texts, what they are cut into */
  size_t max_payload_bytes;   /* what any payload below fits in */
  double alpha;               /* confidence that the file suggests to exit at; 0: none */
} splitee_model_info;

/* Strings and arrays live as long as the model. */
SPLITEE_API int splitee_model_info_get(const splitee_model* model, splitee_model_info* info);

/* ---- samples ---- */

typedef struct splitee_input {
  size_t struct_size;
  const void* data; /* a text, without need of a zero at its end; or `numbers` floats, all finite;
                     * or a picture's file, PNG, JPEG or binary PGM or PPM (for RGB pixels:
                     * "P6 WIDTH HEIGHT 255\n" before them), at most 15 MiB */
  size_t bytes;
  const char* second; /* second text of a pair; NULL: none */
  size_t second_bytes;
  uint64_t id;       /* of the caller; a record has it again */
  const char* label; /* the truth: name or number of a class; NULL or empty: not known */
} splitee_input;

/* A sample on its way through the network: the prepared input (layer 0), or the activation of a
 * layer. What an engine begins with, here or on another machine that has the same model file.
 * `data` and `capacity` are the caller's; the rest is filled in with what lies there. */
typedef struct splitee_payload {
  size_t struct_size;
  void* data;      /* layer 0: bytes of the network's own form; else floats (rows, cols) */
  size_t capacity; /* bytes */
  size_t bytes;    /* used; where it was too small: wanted */
  size_t layer;
  size_t length; /* of the input, in units */
  size_t rows, cols;
} splitee_payload;

/* Makes an input ready: cuts a text into what the network reads, checks numbers. Of a picture the
 * kind is looked at; what else is wrong with it is said by splitee_engine_begin(). */
SPLITEE_API int splitee_prepare(const splitee_model* model, const splitee_input* input,
                                splitee_payload* payload);

/* ---- engines ---- */

/* `threads`: for the products of one sample. Workspace for the longest sample is allocated here. */
SPLITEE_API int splitee_engine_create(const splitee_model* model, size_t threads,
                                      splitee_engine** engine);

/* Begins a sample, from its input or from an activation, and forgets the one before. */
SPLITEE_API int splitee_engine_begin(splitee_engine* engine, const splitee_payload* payload);

/* Runs on to the layer of exit `exit`, which the sample must not have passed yet, and reads it.
 * `probabilities`: `count` >= classes floats. Only what the exit reads is computed of its layer. */
SPLITEE_API int splitee_engine_run(splitee_engine* engine, size_t exit, float* probabilities,
                                   size_t count);

/* Hands out the activation of the layer reached, which may then be begun with. The engine goes on.
 */
SPLITEE_API int splitee_engine_activation(splitee_engine* engine, splitee_payload* payload);

/* ---- policies ---- */

enum splitee_route {
  SPLITEE_ROUTE_EXIT = 0,     /* answered by an exit before the last */
  SPLITEE_ROUTE_OFFLOAD = 1,  /* by a server */
  SPLITEE_ROUTE_FALLBACK = 2, /* meant for a server, finished here */
  SPLITEE_ROUTE_FINAL = 3,    /* by the last exit, here */
  SPLITEE_ROUTE_AUDIT = 4     /* the same, to see what others would have said */
};

enum splitee_link { SPLITEE_LINK_NONE = 0, SPLITEE_LINK_UP = 1, SPLITEE_LINK_DOWN = 2 };

#define SPLITEE_INPUT SIZE_MAX /* in place of an exit: the input itself, before any layer */

/* What came of a sample. */
typedef struct splitee_outcome {
  size_t struct_size;
  uint64_t sample; /* as splitee_policy_calls::plan was told, of a caller's policy */
  int route;       /* enum splitee_route */
  size_t exit;     /* that answered; the last one where a server did */
  uint32_t class_index;
  float confidence;              /* of the answer */
  double cost;                   /* really paid, in lambda (the cost of a layer with its exit) */
  size_t exits;                  /* of the network */
  const float* confidences;      /* (exits) NaN where an exit was not read here; valid until the */
  const uint32_t* class_indices; /* policy's next call; (exits) UINT32_MAX where not known */
} splitee_outcome;

/* What an exit said to a policy. */
typedef struct splitee_reading {
  size_t struct_size;
  uint64_t sample;
  size_t exit, exits;
  float confidence; /* largest probability; NaN where any is no number within 0 and 1 */
  uint32_t class_index;
  const float* probabilities; /* (classes), valid during the call; NULL in a replay of a trace */
  size_t classes;
  int link; /* enum splitee_link; samples can be sent where it is up */
} splitee_reading;

#define SPLITEE_ANSWER (-1) /* this exit answers */
#define SPLITEE_SEND (-2)   /* a server is to answer */
#define SPLITEE_FAIL (-3)   /* the callback failed; the sample runs to its last exit */

/* A policy of the caller. An exit's index, or one of the numbers above, is what the first two
 * answer: plan    the exit to look at first, or SPLITEE_SEND for the input at once decide
 * SPLITEE_ANSWER, SPLITEE_SEND, or a later exit to look at next With no link up, what is to be sent
 * runs to the last exit here. The last exit always answers. Samples may overlap: observe, which may
 * be NULL, comes once for each, in their order, later. */
typedef struct splitee_policy_calls {
  size_t struct_size;
  void* user;
  int (*plan)(void* user, uint64_t sample, int link);
  int (*decide)(void* user, const splitee_reading* reading);
  void (*observe)(void* user, const splitee_outcome* outcome);
} splitee_policy_calls;

/* `model` says where the exits are and what it suggests. `calls`: the caller's own policy, or NULL
 * for one of the library's. Options: policy and all that belongs to it (alpha, max-disagreement,
 * seed, lambda, offload-cost, costs, ...). `state`: what splitee_policy_save() gave of a policy
 * with the same options, to go on from; NULL: none. */
SPLITEE_API int splitee_policy_create(const splitee_model* model, const splitee_policy_calls* calls,
                                      const char* const* options, const void* state,
                                      size_t state_bytes, splitee_policy** policy);

/* How a policy is to reach the network of a sample. Both fill `count` = classes probabilities and
 * return 0, or something else where they fail: a failed evaluate ends the call, a failed offload
 * (NULL: always) has the sample finished here. */
typedef struct splitee_network_calls {
  size_t struct_size;
  void* user;
  int (*evaluate)(void* user, size_t exit, float* probabilities, size_t count);
  int (*offload)(void* user, size_t exit, float* probabilities, size_t count);
} splitee_network_calls;

/* Decides one sample: reads the exits that the policy wants to see, in ascending order, sends the
 * sample or has it answered, and lets the policy learn from what came of it. */
SPLITEE_API int splitee_policy_run(splitee_policy* policy, int link,
                                   const splitee_network_calls* network, splitee_outcome* outcome);

/* What the policy has learned, at most `capacity` bytes of it in `data`; `bytes`: how many there
 * are. SPLITEE_TOO_SMALL where they do not fit. */
SPLITEE_API int splitee_policy_save(const splitee_policy* policy, void* data, size_t capacity,
                                    size_t* bytes);

/* ---- offloading ---- */

/* Options: server (ENDPOINT such as tcp://10.0.0.2:5555; may be given several times), secret-key
 * and server-key (files; CURVE), activation (f32, f16, i8), connect-ms, require-server. A server
 * that cannot be reached now is sought again later. */
SPLITEE_API int splitee_client_create(const splitee_model* model, const char* const* options,
                                      splitee_client** client);

typedef struct splitee_reply {
  size_t struct_size;
  uint32_t class_index;
  float confidence;
  int64_t link_us, server_us; /* waiting less the server's time; the server's time */
  uint64_t bytes_sent;
} splitee_reply;

/* Has a server finish a sample. `probabilities`: `count` >= classes floats, of the last exit.
 * SPLITEE_NO_ANSWER after `deadline_ms` at the latest; the sample can then be finished here.
 * `reply` may be NULL. */
SPLITEE_API int splitee_client_offload(splitee_client* client, const splitee_payload* payload,
                                       int64_t deadline_ms, float* probabilities, size_t count,
                                       splitee_reply* reply);

/* ---- all of it in one ---- */

/* An edge on a model. `policy` and `client`: handles of the same model, or NULL to have them made
 * by the options. Options: those of splitee_policy_create() and splitee_client_create() where these
 * are NULL, and threads, window, deadline-ms, payload, exits, max-tokens, state, slowdown. */
SPLITEE_API int splitee_edge_create(const splitee_model* model, splitee_policy* policy,
                                    splitee_client* client, const char* const* options,
                                    splitee_edge** edge);

typedef struct splitee_record {
  size_t struct_size;
  uint64_t id;          /* of the input */
  uint32_t class_index; /* SPLITEE_CLASSES only, as are label, confidence and reward */
  const char* label;    /* valid as long as the model; the other strings and arrays until the */
  float confidence;     /* edge's next call */
  size_t split;         /* layer where the sample was split; 0: the input was sent */
  size_t exit_layer;    /* whose exit answered */
  int route;            /* enum splitee_route */
  double cost;          /* in lambda */
  double reward;
  int64_t edge_us, link_us, server_us;
  uint64_t bytes_sent;
  size_t values_count; /* SPLITEE_LABELS and SPLITEE_VALUE: what the last exit said */
  const float* values;
  const char* json; /* the record as the line that splitee-edge writes, without its end */
} splitee_record;

/* Classifies one sample: runs it as deep as the policy says, sends it where there is a server and
 * the policy wants it, and lets the policy learn. Nothing may be in progress. An input that the
 * network cannot take is an error that changes nothing. */
SPLITEE_API int splitee_classify(splitee_edge* edge, const splitee_input* input,
                                 splitee_record* record);

/* The same for a stream, where samples wait for a server while others run: submit starts a sample,
 * next gives the records, in the order of the samples. Submit is SPLITEE_FULL while `window`
 * records have not been taken; next waits for at most `timeout_ms` (0: not at all; negative: as
 * long as it takes), is SPLITEE_NONE where none came, at once where nothing is in progress. */
SPLITEE_API int splitee_edge_submit(splitee_edge* edge, const splitee_input* input);
SPLITEE_API int splitee_edge_next(splitee_edge* edge, int64_t timeout_ms, splitee_record* record);

/* What the edge has done so far, as the JSON that `splitee-edge --summary-json` writes; with a zero
 * at its end, which `bytes` counts. As splitee_policy_save(). */
SPLITEE_API int splitee_edge_summary(splitee_edge* edge, char* json, size_t capacity,
                                     size_t* bytes);

/* ---- trying policies out ---- */

/* Replays a policy on a trace of `splitee trace`. `calls`: the caller's policy, which is told of
 * samples in the order of the runs; NULL: the option policy names one. Options: those of `splitee
 * replay` (alpha, lambda, offload-cost, runs, seed, order, decisions, ...). The figures come as the
 * JSON of `splitee replay --json`, with a zero at its end, which `bytes` counts; where they do not
 * fit it is SPLITEE_TOO_SMALL and the replay is to be run again. */
SPLITEE_API int splitee_replay(const char* trace_path, const splitee_policy_calls* calls,
                               const char* const* options, char* json, size_t capacity,
                               size_t* bytes);

#ifdef __cplusplus
}
#endif

#endif
