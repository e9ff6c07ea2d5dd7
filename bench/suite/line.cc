#include "bench/suite/line.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

namespace qkv::bench {
namespace {

constexpr std::string_view kCausal = " causal";
constexpr std::string_view kTrace = " trace";

}  // namespace

std::string Line::name() const {
  std::string text;
  for (const std::int64_t n : {batch, heads, heads_kv, queries, keys})
    text += std::to_string(n) + ",";
  text += std::to_string(dim);
  if (dim_v != dim) text += ":" + std::to_string(dim_v);
  if (causal) text += kCausal;
  if (kind == Kind::trace) text += kTrace;
  return text;
}

double Line::flops() const {
  const double scores = static_cast<double>(batch * heads) * static_cast<double>(queries * keys);
  return 2 * scores * static_cast<double>(dim + dim_v) * (causal ? 0.5 : 1);
}

double Line::key_value_bytes() const {
  return static_cast<double>(batch * heads_kv) * static_cast<double>(keys * (dim + dim_v)) *
         sizeof(float);
}

std::vector<Line> lines(bool all, bool quick) {
  if (quick)
    return {{1, 12, 12, 128, 128, 64}, {1, 12, 12, 512, 512, 64}, {1, 8, 8, 2048, 2048, 128, true}};
  std::vector<Line> list = {
      {1, 12, 12, 128, 128, 64},
      {1, 12, 12, 128, 128, 64, true},
      {1, 12, 12, 512, 512, 64},
      {1, 12, 12, 512, 512, 64, true},
      {8, 12, 12, 512, 512, 64},
      {8, 12, 12, 512, 512, 64, true},
      {1, 8, 8, 2048, 2048, 64},
      {1, 8, 8, 2048, 2048, 64, true},
      {1, 8, 8, 2048, 2048, 128},
      {1, 8, 8, 2048, 2048, 128, true},
      {1, 32, 8, 2048, 2048, 128, true},
      {1, 2, 2, 8192, 8192, 128, true},
      {1, 8, 8, 2048, 2048, 192, false, Kind::prefill, 128},
      {1, 8, 8, 2048, 2048, 192, true, Kind::prefill, 128},
  };
  if (all)
    list.insert(list.end(), {
                                {1, 32, 32, 1, 4096, 128, false, Kind::decode},
                                {1, 32, 8, 1, 4096, 128, false, Kind::decode},
                                {1, 32, 8, 1, 32768, 128, false, Kind::decode},
                                {16, 32, 8, 1, 4096, 128, false, Kind::decode},
                                {1, 8, 8, 2048, 2048, 64, false, Kind::trace},
                                {1, 8, 8, 2048, 2048, 128, false, Kind::trace},
                            });
  return list;
}

std::vector<Line> matching(const std::vector<Line>& lines, std::string_view filter) {
  if (filter.empty()) return lines;
  std::vector<Line> found;
  for (const Line& line : lines) {
    const std::string name = line.name();
    for (std::string_view rest = filter; !rest.empty();) {
      const std::size_t end = std::min(rest.find(';'), rest.size());
      if (end > 0 && name.find(rest.substr(0, end)) != std::string::npos) {
        found.push_back(line);
        break;
      }
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return found;
}

Line parse_line(const std::string& name) {
  long long n[6] = {};
  int read = 0;
  const int fields = std::sscanf(name.c_str(), "%lld,%lld,%lld,%lld,%lld,%lld%n", &n[0], &n[1],
                                 &n[2], &n[3], &n[4], &n[5], &read);
  long long dim_v = n[5];
  std::string_view rest = name;
  rest.remove_prefix(fields == 6 ? static_cast<std::size_t>(read) : 0);
  if (fields == 6 && rest.starts_with(":")) {
    int more = 0;
    if (std::sscanf(rest.data(), ":%lld%n", &dim_v, &more) == 1)
      rest.remove_prefix(static_cast<std::size_t>(more));
  }
  const bool positive =
      std::all_of(std::begin(n), std::end(n), [](long long x) { return x > 0; }) && dim_v > 0;
  if (fields != 6 || !positive || n[1] % n[2] != 0 || !(rest.empty() || rest == kCausal))
    throw std::invalid_argument(
        "a shape is batch,heads_q,heads_kv,queries,keys,dim[:dim_v][ causal] with heads_q a "
        "multiple of heads_kv, got \"" +
        name + "\"");
  return {n[0], n[1], n[2],          n[3],
          n[4], n[5], !rest.empty(), n[3] == 1 ? Kind::decode : Kind::prefill,
          dim_v};
}

}  // namespace qkv::bench
