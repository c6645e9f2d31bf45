// The model file of a BERT encoder: llama.cpp's names for the backbone, and exits under this
// project's own prefix, besides what every model file has (runtime/file/model_keys.h). Written by
// tools/convert_hf.py, read by BertNetwork.
// Thread rule: constants only.
//
// Keys
//   general.architecture                  string  "bert"
//   bert.block_count                      u32     layers L, 1 .. 1024
//   bert.context_length                   u32     positions P, 3 .. 8192
//   bert.embedding_length                 u32     hidden H, a multiple of the head count
//   bert.feed_forward_length              u32     F
//   bert.attention.head_count             u32
//   bert.attention.layer_norm_epsilon     f32     1e-20 .. 1
//   bert.attention.causal                 bool    optional; only false
//   bert.pooling_type                     u32     optional (2): what exits read of their layer's
//                                         output, in llama.cpp's numbers: 2 the first token's row,
//                                         1 the mean of all rows
//   tokenizer.ggml.model                  string  "bert"
//   tokenizer.ggml.tokens                 array of string, V entries, in llama.cpp's rewriting:
//                                         "word" is U+2581 "word", "##ing" is "ing"
//   tokenizer.ggml.token_type             array of i32, V entries: 1 normal (rewritten as above);
//                                         3 control ([CLS], ...) and 4 user defined: the token is
//                                         spelled as in vocab.txt. Write 4 for a piece that the
//                                         rewriting cannot carry ("##" before U+2581)
//   tokenizer.ggml.token_type_count       u32     T, rows of token_types.weight
//   splitee.activation                    string  optional ("gelu"), of the feed-forward layers:
//                                         gelu, gelu_tanh (gelu_new), relu, silu
//   splitee.pooler_activation             string  optional ("tanh"): tanh, relu, gelu
//   splitee.lower_case                    bool    optional (true): tokenizer lower-cases
//   splitee.strip_accents                 bool    optional (as lower_case)
//   splitee.split_ideographs              bool    optional (true): the CJK blocks that BERT lists
//                                         are words of their own
//   splitee.added_tokens                  array of u32, optional: tokens that are looked for in the
//                                         text itself; with the next one
//   splitee.added_token_flags             array of u32, one per added token, a sum of: 1 only where
//                                         it is a single word, 2 looked for in the normalized text,
//                                         4 a token of the vocabulary as well
//
// A classifier that llama.cpp's converter wrote is read as a network with one exit, on the last
// layer. It has none of the keys "splitee." and the tensors
//   cls.output.weight (C, H)  .bias (C)      one label: weight may be (H)
//   cls.weight (H, H)         .bias (H)      optional: the pooler, tanh
//   bert.classifier.output_labels         array of string, optional (LABEL_0, ...); one label means
//                                         the output "value"
//   bert.pooling_type                     u32     optional; 4 (rank) or 2 (first token)
// Its content hash is that of the whole file. Token types may be 5 (unused) too.
//
// Tensors, as (rows, cols) like PyTorch's; C classes, N = 0 .. L-1, K an exit's 1-based layer
//   token_embd.weight (V, H)    token_types.weight (T, H)    position_embd.weight (P, H)
//   token_embd_norm.{weight,bias} (H)
//   blk.N.attn_{q,k,v,output}.weight (H, H)  .bias (H)   blk.N.attn_output_norm.{weight,bias} (H)
//   blk.N.ffn_up.weight (F, H)  .bias (F)    blk.N.ffn_down.weight (H, F)  .bias (H)
//   blk.N.layer_output_norm.{weight,bias} (H)
//   splitee.exit.K.pooler.weight (H, H)      .bias (H)
//   splitee.exit.K.classifier.weight (C, H)  .bias (C)
// Input scales of I8 matrices, each optional (runtime/file/model_keys.h):
//   blk.N.{attn_qkv,attn_output,ffn_up}.input_scale (H)   blk.N.ffn_down.input_scale (F)
//   splitee.exit.K.pooler.input_scale (H)   splitee.exit.K.classifier.input_scale (H)
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace splitee::runtime {

inline constexpr std::string_view kKeyLayers = "bert.block_count";
inline constexpr std::string_view kKeyContext = "bert.context_length";
inline constexpr std::string_view kKeyHidden = "bert.embedding_length";
inline constexpr std::string_view kKeyFfn = "bert.feed_forward_length";
inline constexpr std::string_view kKeyHeads = "bert.attention.head_count";
inline constexpr std::string_view kKeyEpsilon = "bert.attention.layer_norm_epsilon";
inline constexpr std::string_view kKeyCausal = "bert.attention.causal";
inline constexpr std::string_view kKeyPooling = "bert.pooling_type";
inline constexpr std::string_view kKeyTokenizer = "tokenizer.ggml.model";
inline constexpr std::string_view kKeyTokens = "tokenizer.ggml.tokens";
inline constexpr std::string_view kKeyTokenKinds = "tokenizer.ggml.token_type";
inline constexpr std::string_view kKeyTypeCount = "tokenizer.ggml.token_type_count";
inline constexpr std::string_view kKeyLowerCase = "splitee.lower_case";
inline constexpr std::string_view kKeyStripAccents = "splitee.strip_accents";
inline constexpr std::string_view kKeySplitIdeographs = "splitee.split_ideographs";
inline constexpr std::string_view kKeyAddedTokens = "splitee.added_tokens";
inline constexpr std::string_view kKeyAddedTokenFlags = "splitee.added_token_flags";
inline constexpr std::string_view kKeyActivation = "splitee.activation";
inline constexpr std::string_view kKeyPoolerActivation = "splitee.pooler_activation";
inline constexpr std::string_view kKeyLlamaLabels = "bert.classifier.output_labels";

inline constexpr std::string_view kWordMark = "\xe2\x96\x81";  // U+2581

inline constexpr std::size_t kMaxHidden = 16384;
inline constexpr std::size_t kMaxFfn = 65536;
inline constexpr std::size_t kMinContext = 3;  // [CLS] token [SEP]
inline constexpr std::size_t kMaxContext = 8192;
inline constexpr std::uint32_t kPoolingMean = 1, kPoolingFirst = 2;

}  // namespace splitee::runtime
