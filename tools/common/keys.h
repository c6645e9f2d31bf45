// CURVE keys in text files. A key is 32 bytes in Z85 (ZeroMQ RFC 32): 40 characters.
//   PREFIX.secret  two lines, mode 0600:  "public-key KEY" and "secret-key KEY"
//   PREFIX.public  one line: KEY
//   authorized keys (and any file of public keys): one KEY a line, anything after a space is a
//   note; empty lines and lines that begin with "# " are skipped.
// Errors name the path and the line; a message never holds a secret key.
// Thread rule: free functions.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "transport/zmq/curve.h"

namespace splitee::tools {

using KeyPair = transport::CurveKeyPair;

Result<KeyPair> generate_key_pair();

// Writes PREFIX.secret and PREFIX.public; refuses to replace either.
Status write_key_pair(const std::string& prefix, const KeyPair& keys);

// Reads a .secret file; checks that the two keys belong together.
Result<KeyPair> read_secret_key(const std::string& path);

// Reads a file of at least one public key.
Result<std::vector<std::string>> read_public_keys(const std::string& path);

// `text` is a key itself, or the path of a file with one public key.
Result<std::string> read_public_key(const std::string& text);

}  // namespace splitee::tools
