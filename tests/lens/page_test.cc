// The page as text: its data are the run's, and no sentence can leave its place. tests/page opens it in a browser.
#include "lens/page.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "lens/page_files.h"
#include "tests/lens/synthetic.h"

namespace qkv::lens {
namespace {

using nlohmann::json;
using testing::mostly;
using testing::pieces_of;
using testing::record_with;

struct Example {
  std::string text = "the cat </script> it";
  std::vector<models::Piece> pieces = pieces_of(text, {"▁the", "▁cat", "▁</script>", "▁it"});
  layers::AttentionTape tape = {record_with({mostly(6, 2, 0.6F), mostly(6, 1, 0.3F)}, 0)};
  std::vector<models::HeadRole> roles = {{"encoder", 0, 1, "coreference", 0.91, 0.2, true}};
  Run run() const { return {text, "en", pieces, &tape, roles}; }
};

std::vector<float> decode(const std::string& text) {
  static const std::string kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  unsigned group = 0;
  int bits = 0;
  for (const char c : text) {
    if (c == '=') break;
    group = group << 6 | static_cast<unsigned>(kDigits.find(c));
    bits += 6;
    if (bits >= 8) bytes += static_cast<char>(group >> (bits -= 8) & 255);
  }
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

TEST(Page, DataAreTheRunsOwnBits) {
  const Example example;
  const json data = json::parse(page_data(example.run(), {}));
  EXPECT_EQ(data["kind"], "look");
  EXPECT_TRUE(data["key"].is_null());
  EXPECT_EQ(data["query"]["text"], example.text);
  const layers::AttentionRecord& record = example.tape[0];
  const json& layer = data["layers"][0];
  EXPECT_EQ(decode(layer["q"]), record.q);
  EXPECT_EQ(decode(layer["k"]), record.k);
  EXPECT_EQ(decode(layer["v"]), record.v);
  EXPECT_EQ(decode(layer["lse"]), record.lse);
  for (int head = 0; head < 2; ++head)
    EXPECT_EQ(decode(layer["weights"][static_cast<std::size_t>(head)]), head_weights(record, head));
  EXPECT_TRUE(layer["out"][0].is_null());  // the example's record has none
  EXPECT_TRUE(data["untrained"].is_null());
  EXPECT_EQ(layer["roles"][1][0]["role"], "coreference");
  const auto it = data["asked"][0].get<std::size_t>();
  EXPECT_EQ(data["query"]["words"][it]["text"], "it");
  EXPECT_EQ(data["fitting"][it], json({{0, 1}}));
}

TEST(Page, OutputsAndTheWeightsBeforeTrainingAreTheirOwnBits) {
  Example example;
  layers::AttentionRecord& record = example.tape[0];
  for (std::int64_t i = 0; i < record.heads * record.queries * record.dim_v; ++i)
    record.out.push_back(0.25F * static_cast<float>(i));
  const layers::AttentionTape before = {record_with({mostly(6, 0, 0.2F), mostly(6, 3, 0.1F)}, 0)};
  lens::Run run = example.run();
  run.untrained = &before;
  const json data = json::parse(page_data(run, {}));
  const std::size_t half = record.out.size() / 2;
  EXPECT_EQ(
      decode(data["layers"][0]["out"][1]),
      std::vector<float>(record.out.begin() + static_cast<std::ptrdiff_t>(half), record.out.end()));
  EXPECT_EQ(decode(data["untrained"][0][1]), head_weights(before[0], 1));
}

TEST(Page, ATextStaysInItsPlace) {
  const Example example;
  const std::string runs[] = {page_data(example.run(), {}), page_data(example.run(), {})};
  const std::string page = run_page(runs);
  std::size_t scripts = 0;
  for (std::size_t at = page.find("</script"); at != std::string::npos;
       at = page.find("</script", at + 1))
    ++scripts;
  EXPECT_EQ(scripts, 3U);  // the import map, the runs, the module that starts
  const std::string mark = "id=\"runs\">";
  const std::size_t begin = page.find(mark) + mark.size();
  const json list = json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[1]["query"]["text"], example.text);
  for (const char* rest : {"/*style.css*/", "/*import map*/", "/*runs*/"})
    EXPECT_EQ(page.find(rest), std::string::npos) << rest;
}

TEST(Page, NoModuleCanEndItsPlace) {
  const std::string page = live_page();
  const std::size_t begin = page.find("\"importmap\">") + std::strlen("\"importmap\">");
  const json map = json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  for (const PageFile& file : page_files()) {
    if (file.name.ends_with(".js")) {
      // those are for the Python package, and for pictures
      const bool here = !file.name.starts_with("watch") && !file.name.starts_with("find");
      EXPECT_EQ(map["imports"].contains("qkv/" + std::string(file.name)), here) << file.name;
    }
  }
}

TEST(Page, WrongRunsAreRefused) {
  const Example example;
  ReportOptions options;
  options.query = "dog";
  EXPECT_THROW(page_data(example.run(), options), std::invalid_argument);
  options = {};
  options.layer = 3;
  options.head = 0;
  EXPECT_THROW(page_data(example.run(), options), std::invalid_argument);
  TranslationRun translation;
  translation.tape = &example.tape;
  EXPECT_THROW(page_data(translation), std::invalid_argument);
}

}  // namespace
}  // namespace qkv::lens
