// The longest entry of a set of byte strings that starts a text: WordPiece's one question.
// Thread rule: immutable after construction. Ownership: keeps no reference to the entries' text.
// Layout: a node per distinct prefix; a node's children are neighbours, found by their labels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace splitee::runtime {

class TokenTrie {
 public:
  struct Entry {
    std::string_view text;
    std::int32_t id = 0;
  };
  struct Match {
    std::int32_t id = -1;
    std::size_t bytes = 0;  // 0: no entry starts the text
  };

  TokenTrie() = default;

  // `entries` sorted by text as unsigned bytes, none empty, none twice.
  explicit TokenTrie(std::span<const Entry> entries);

  Match longest(std::string_view text) const;

 private:
  struct Node {
    std::uint32_t first_child = 0;
    std::uint32_t children = 0;
    std::int32_t id = -1;  // -1: a prefix only
  };
  std::vector<Node> nodes_;
  std::vector<unsigned char> labels_;  // the byte that leads to each node
};

}  // namespace splitee::runtime
