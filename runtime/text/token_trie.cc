#include "runtime/text/token_trie.h"

#include <cstring>

namespace splitee::runtime {

TokenTrie::TokenTrie(std::span<const Entry> entries) : nodes_(1), labels_(1) {
  constexpr std::size_t kUsualNodes = 3;  // per entry
  nodes_.reserve(1 + kUsualNodes * entries.size());
  labels_.reserve(1 + kUsualNodes * entries.size());
  // Breadth first: node i stands for entries [begin, end), which share their first `depth` bytes.
  struct Range {
    std::uint32_t begin, end, depth;
  };
  std::vector<Range> ranges = {{0, static_cast<std::uint32_t>(entries.size()), 0}};
  ranges.reserve(1 + kUsualNodes * entries.size());
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    auto [begin, end, depth] = ranges[i];
    if (begin < end && entries[begin].text.size() == depth) nodes_[i].id = entries[begin++].id;
    nodes_[i].first_child = static_cast<std::uint32_t>(nodes_.size());
    while (begin < end) {
      const char label = entries[begin].text[depth];
      const std::uint32_t first = begin;
      while (begin < end && entries[begin].text[depth] == label) ++begin;
      nodes_.emplace_back();
      labels_.push_back(static_cast<unsigned char>(label));
      ranges.push_back({first, begin, depth + 1});
      ++nodes_[i].children;
    }
  }
}

TokenTrie::Match TokenTrie::longest(std::string_view text) const {
  Match match;
  if (nodes_.empty()) return match;
  const Node* node = &nodes_[0];
  for (std::size_t i = 0; i < text.size() && node->children > 0; ++i) {
    const unsigned char* labels = labels_.data() + node->first_child;
    const void* found = std::memchr(labels, static_cast<unsigned char>(text[i]), node->children);
    if (found == nullptr) break;
    const auto child = static_cast<const unsigned char*>(found) - labels;
    node = &nodes_[node->first_child + static_cast<std::size_t>(child)];
    if (node->id >= 0) match = {node->id, i + 1};
  }
  return match;
}

}  // namespace splitee::runtime
