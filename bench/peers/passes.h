// A network as one side of a comparison between processes: it answers given activations or token
// ids once, then times as many passes as it is asked for, line by line.
// Thread rule: one thread. Errors: a message on standard error and exit status 1.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace splitee::bench {

struct PassesOptions {
  std::string gguf;    // model file
  std::string target;  // kernel target; empty: the best
  // Samples one after the other, of one size: either a file of float32, each the output of layer 0,
  // or one of int32, each `tokens` ids of a text network.
  std::string inputs;
  std::string ids;
  std::size_t tokens = 0;
  // Or samples of these lengths, which run as one batch to the last exit.
  std::vector<std::size_t> lengths;
  std::size_t threads = 1;
  bool last_alone = false;  // of the exits, evaluate the last one only; not with ids
};

// Prints the probabilities of every sample and evaluated exit in one line. Then, for every line of
// standard input, a number n: runs the first sample, or the batch, n times and prints the n
// milliseconds in a line.
void passes(const PassesOptions& options);

}  // namespace splitee::bench
