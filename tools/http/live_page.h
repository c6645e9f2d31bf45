// The live page: one HTML file without outside resources, put into the program by embed_page.py.
#pragma once

#include <string_view>

namespace splitee::tools {

std::string_view live_page();
// Its Content-Security-Policy: nothing but its own script and style, by their hashes.
const char* live_page_policy();

}  // namespace splitee::tools
