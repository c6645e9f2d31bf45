// The model file: GGUF v3 with llama.cpp's names for a BERT backbone, and this project's own prefix
// "splitee." for what a multi-exit encoder adds. Written by tools/convert_hf.py, read by Model.
// Thread rule: constants only.
//
// Bytes (all numbers little-endian)
//   "GGUF" | u32 version = 3 | u64 tensors | u64 key-values | key-values | tensor infos |
//   zero padding to general.alignment | tensor data
//   string:       u64 length, bytes (no terminator)
//   key-value:    string key, u32 type, value. Types: 0 u8, 1 i8, 2 u16, 3 i16, 4 u32, 5 i32,
//                 6 f32, 7 bool (one byte, 0 or 1), 8 string, 9 array (u32 element type, u64
//                 length, elements; an array of arrays is refused), 10 u64, 11 i64, 12 f64.
//   tensor info:  string name, u32 dims (1 .. 4), u64 per dim, innermost first (a matrix
//                 (rows, cols) is stored cols, rows), u32 type, u64 offset from the start of the
//                 tensor data. Types: 0 F32, 1 F16, 24 I8, 30 BF16.
//   Tensor data lies in the order of the tensor infos, each tensor at the next multiple of
//   general.alignment after the one before (the first at 0). The file ends at the last byte of the
//   last tensor, or at the next multiple of the alignment.
//   Keys and tensor names are printable ASCII without spaces, unique; a name has 1 .. 64 bytes.
//
// Keys. Unknown keys are ignored; unknown tensors are refused.
//   general.architecture                  string  "bert"
//   general.alignment                     u32     optional (32); a power of two, 32 .. 65536
//   bert.block_count                      u32     layers L, 1 .. 1024
//   bert.context_length                   u32     positions P, 3 .. 8192
//   bert.embedding_length                 u32     hidden H, a multiple of the head count
//   bert.feed_forward_length              u32     F
//   bert.attention.head_count             u32
//   bert.attention.layer_norm_epsilon     f32     finite, > 0
//   bert.attention.causal                 bool    optional; only false
//   tokenizer.ggml.model                  string  "bert"
//   tokenizer.ggml.tokens                 array of string, V entries, in llama.cpp's rewriting:
//                                         "word" is U+2581 "word", "##ing" is "ing"
//   tokenizer.ggml.token_type             array of i32, V entries: 1 normal (rewritten as above);
//                                         3 control ([CLS], ...) and 4 user defined: the token is
//                                         spelled as in vocab.txt. Write 4 for a piece that the
//                                         rewriting cannot carry ("##" before U+2581)
//   tokenizer.ggml.token_type_count       u32     T, rows of token_types.weight
//   splitee.content_hash                  u64     required; content_hash (runtime/hash.h) of the
//                                         whole file with these 8 value bytes taken as zero.
//                                         Checked at load; the model's identity on the wire
//   splitee.exit_layers                   array of u32: layers with an exit, 1-based, ascending,
//                                         the last one is L
//   splitee.labels                        array of string, one per class: not empty, valid UTF-8
//                                         without U+0000 .. U+001F and U+007F, unique; at least
//                                         two, at most 65536
//   splitee.exit_temperatures             array of f32, optional (1): one per exit, finite, > 0
//   splitee.alpha                         f32     optional: suggested exit threshold, in (0, 1]
//   splitee.exit_alphas                   array of f32, optional: one per exit, in (0, 1], for
//                                         policies with a threshold per exit
//   splitee.lower_case                    bool    optional (true): tokenizer lower-cases and strips
//                                         accents
//
// Tensors, as (rows, cols) like PyTorch's; C classes, N = 0 .. L-1, K an exit's 1-based layer
//   token_embd.weight (V, H)    token_types.weight (T, H)    position_embd.weight (P, H)
//   token_embd_norm.{weight,bias} (H)
//   blk.N.attn_{q,k,v,output}.weight (H, H)  .bias (H)   blk.N.attn_output_norm.{weight,bias} (H)
//   blk.N.ffn_up.weight (F, H)  .bias (F)    blk.N.ffn_down.weight (H, F)  .bias (H)
//   blk.N.layer_output_norm.{weight,bias} (H)
//   splitee.exit.K.pooler.weight (H, H)      .bias (H)
//   splitee.exit.K.classifier.weight (C, H)  .bias (C)
// Matrices are F32, F16, BF16 or I8, each on its own; vectors are F32, F16 or BF16.
// An I8 matrix NAME (rows, cols) has a companion vector NAME.scale (rows), for instance
// blk.0.attn_q.weight.scale: value = int8 * scale[row].
// Every value (after scaling) is finite.
//
// Matrices lie as they are, one form for every machine: the two ends of a link hold the same file
// (they compare its hash) on different instruction sets, and each packs what it uses for its own
// kernels. The type of a matrix is also its arithmetic (runtime/model.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace splitee::runtime {

inline constexpr std::string_view kKeyArchitecture = "general.architecture";
inline constexpr std::string_view kKeyAlignment = "general.alignment";
inline constexpr std::string_view kKeyLayers = "bert.block_count";
inline constexpr std::string_view kKeyContext = "bert.context_length";
inline constexpr std::string_view kKeyHidden = "bert.embedding_length";
inline constexpr std::string_view kKeyFfn = "bert.feed_forward_length";
inline constexpr std::string_view kKeyHeads = "bert.attention.head_count";
inline constexpr std::string_view kKeyEpsilon = "bert.attention.layer_norm_epsilon";
inline constexpr std::string_view kKeyCausal = "bert.attention.causal";
inline constexpr std::string_view kKeyTokenizer = "tokenizer.ggml.model";
inline constexpr std::string_view kKeyTokens = "tokenizer.ggml.tokens";
inline constexpr std::string_view kKeyTokenKinds = "tokenizer.ggml.token_type";
inline constexpr std::string_view kKeyTypeCount = "tokenizer.ggml.token_type_count";
inline constexpr std::string_view kKeyContentHash = "splitee.content_hash";
inline constexpr std::string_view kKeyExitLayers = "splitee.exit_layers";
inline constexpr std::string_view kKeyLabels = "splitee.labels";
inline constexpr std::string_view kKeyTemperatures = "splitee.exit_temperatures";
inline constexpr std::string_view kKeyAlpha = "splitee.alpha";
inline constexpr std::string_view kKeyExitAlphas = "splitee.exit_alphas";
inline constexpr std::string_view kKeyLowerCase = "splitee.lower_case";

inline constexpr std::string_view kScaleSuffix = ".scale";
inline constexpr std::string_view kWordMark = "\xe2\x96\x81";  // U+2581

inline constexpr std::size_t kMaxLayers = 1024;
inline constexpr std::size_t kMaxHidden = 16384;
inline constexpr std::size_t kMaxFfn = 65536;
inline constexpr std::size_t kMinContext = 3;  // [CLS] token [SEP]
inline constexpr std::size_t kMaxContext = 8192;
inline constexpr std::size_t kMaxClasses = 65536;

}  // namespace splitee::runtime
