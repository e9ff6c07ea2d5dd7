// What a finder read, on a tape whose weights are chosen: 2 × 2 patches, three words and the end, the presence token and three queries.
#include "lens/find_reading.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "lens/find_report.h"
#include "lens/json.h"
#include "lens/page.h"
#include "lens/terminal.h"
#include "tests/lens/synthetic.h"

namespace qkv::lens {
namespace {

using nlohmann::json;
using testing::mostly;
using testing::pieces_of;
using testing::record_with;

layers::AttentionRecord record_at(const std::string& where,
                                  const std::vector<testing::Weights>& heads) {
  layers::AttentionRecord record = record_with(heads, 0);
  record.where = where;
  return record;
}

struct Example {
  std::string prompt = "the red car";
  std::vector<models::Piece> pieces = pieces_of(prompt, {"▁the", "▁red", "▁car"}, "");
  layers::AttentionTape tape = {
      record_at("decoder.0.self", {mostly(4, 0, 0.4F)}),
      record_at("decoder.0.words", {mostly(4, 1, 0.7F), mostly(4, 2, 0.7F)}),
      record_at("decoder.0.picture", {mostly(4, 3, 0.7F), mostly(4, 2, 0.4F)})};
  layers::AttentionTape looked = {record_at("picture.0.self", {mostly(4, 0, 0.4F)})};
  models::finder::Answer answer;
  models::finder::Output output;

  Example() {
    answer.presence = 0.75F;
    answer.present = true;
    // 4 × 2 pixels in the middle of a square of 4: the mask is the two in the lower right corner, half of patch 3 there
    answer.objects.push_back({1, 0.5F, {}, {0, 0, 0, 0, 0, 0, 1, 1}});
    output.score = {-1, 0, -2};
    output.chosen = {0, 3, 1};
  }
  FindRun run() const {
    FindRun run;
    run.prompt = prompt;
    run.language = "en";
    run.pieces = pieces;
    run.frame = models::finder::Frame::fit(4, 2, 4);
    run.image = 4;
    run.answer = &answer;
    run.output = &output;
    run.tape = &tape;
    run.looked = &looked;
    return run;
  }
};

TEST(FindReading, IsTheTapesWeightsByWordAndPatch) {
  const Example example;
  const FindReadings report = read_run(example.run());
  ASSERT_EQ(report.words.size(), 4U);
  EXPECT_EQ(report.prompt_words, 3);
  EXPECT_EQ(report.side, 2);
  ASSERT_EQ(report.asked.size(), 2U);
  EXPECT_EQ(report.asked[0].object, -1);
  EXPECT_EQ(report.asked[0].score, 0.75F);
  EXPECT_EQ(report.asked[1].object, 0);
  for (const FindAsker& asker : report.asked) {
    ASSERT_EQ(asker.layers.size(), 1U);
    const FindLayer& layer = asker.layers[0];
    ASSERT_EQ(layer.heads.size(), 2U);
    EXPECT_NEAR(layer.heads[0].words[1], 0.7F, 1e-6F);
    EXPECT_NEAR(layer.heads[1].words[2], 0.7F, 1e-6F);
    EXPECT_NEAR(layer.mean.words[1], 0.4F, 1e-6F);  // (0.7 + 0.1) / 2
    EXPECT_NEAR(layer.mean.words[3], 0.1F, 1e-6F);
    EXPECT_NEAR(layer.heads[0].patches[3], 0.7F, 1e-6F);
    EXPECT_NEAR(layer.mean.patches[3], 0.45F, 1e-6F);  // (0.7 + 0.2) / 2
  }
}

TEST(FindReading, TellsHowMuchLiesOnTheObject) {
  const Example example;
  const FindReadings report = read_run(example.run());
  const FindAsker& object = report.asked[1];
  // The square's pixels of 1/4 patch each: two of the object's lie in patch 3.
  EXPECT_EQ(object.cover, (std::vector<float>{0, 0, 0, 0.5F}));
  const OnObject on = on_object(report, object, object.layers[0].heads[0]);
  EXPECT_NEAR(on.share, 0.35, 1e-6);
  EXPECT_NEAR(on.chance, 0.125, 1e-6);
  EXPECT_EQ(on_object(report, report.asked[0], object.layers[0].mean).share, 0);
}

TEST(FindReading, PatchesBesideThePictureAreKnown) {
  Example example;
  example.answer.objects.clear();
  FindRun run = example.run();
  run.frame = models::finder::Frame::fit(2, 8, 4);  // columns 1.5 to 2.5 of 4
  EXPECT_EQ(read_run(run).inside, std::vector<bool>(4, true));
  run.frame.left = 2;
  EXPECT_EQ(read_run(run).inside, (std::vector<bool>{false, true, false, true}));
}

TEST(FindReading, TerminalShowsWordsAndMap) {
  const Example example;
  const std::string text = to_terminal(read_run(example.run()), {60, false});
  EXPECT_NE(text.find("Presence, 75.0%, read"), std::string::npos) << text;
  EXPECT_NE(text.find("Object 1, 50.0%, read"), std::string::npos) << text;
  EXPECT_NE(text.find("red     40.0%"), std::string::npos) << text;
  EXPECT_NE(text.find("on the object: 22.5%, by chance 12.5%"), std::string::npos) << text;
  // Patches 2 and 3: 0.25 and 0.45, of 0.15 to 0.45.
  EXPECT_NE(text.find("░░██"), std::string::npos) << text;
  FindReport report;
  report.prompt = example.prompt;
  report.file = "street.png";
  report.width = 4;
  report.height = 2;
  const std::string without = to_terminal(std::span(&report, 1), {60, false});
  EXPECT_EQ(to_json(report).find("\"read\""), std::string::npos);
  report.read = read_run(example.run());
  EXPECT_EQ(to_terminal(std::span(&report, 1), {60, false}), without + "\n" + text);
  const json said = json::parse(to_json(report));
  EXPECT_EQ(said["read"]["words"], json({"the", "red", "car"}));
  EXPECT_EQ(said["read"]["specials"], json({"⟨end⟩"}));
  EXPECT_EQ(said["read"]["asked"][1]["layers"][0]["heads"].size(), 2U);
  EXPECT_EQ(said["read"]["asked"][1]["layers"][0]["patches"].size(), 2U);
}

TEST(FindReport, WithoutObjectsTheSentenceSaysWhetherSomethingIsThere) {
  FindReport report;
  report.prompt = "red car";
  report.presence = 0.4F;
  report.present = true;  // by a threshold of the caller's
  EXPECT_EQ(nothing_found(report),
            "something here may be a red car (probability: 40.0%), but no object stands out");
  EXPECT_EQ(json::parse(to_json(report))["present"], true);
  report.present = false;
  EXPECT_EQ(nothing_found(report),
            "nothing here is a red car (probability that something is: 40.0%)");
  EXPECT_EQ(json::parse(to_json(report))["present"], false);
}

TEST(FindReading, WrongRunsAreNamed) {
  Example example;
  const auto message = [&](const auto& call) -> std::string {
    try {
      call();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  const FindRun run = example.run();
  EXPECT_EQ(message([&] {
              page_data(std::span<const FindRun>(), {1, 1, "png"});
            }),
            "expected one prompt at least, got none");
  EXPECT_EQ(message([&] {
              page_data(std::span(&run, 1), {0, 1, "png"});
            }),
            "expected a picture in PNG for the page, got 0×1 pixels in 3 bytes");
  example.pieces.pop_back();
  EXPECT_EQ(message([&] { read_run(example.run()); }),
            "expected the run of a prompt of 3 pieces, got one of 4");
  example.tape.clear();
  EXPECT_EQ(message([&] { read_run(example.run()); }),
            "the run has no attention decoder.N.words to look at");
}

TEST(FindPage, CarriesTheRunThePictureAndItsModules) {
  const Example example;
  const FindRun run = example.run();
  const FindRun two[] = {run, run};
  const json data = json::parse(page_data(two, {4, 2, "\x89PNG"}));
  EXPECT_EQ(data["kind"], "find");
  EXPECT_EQ(data["picture"]["png"], "iVBORw==");
  EXPECT_EQ(data["picture"]["top"], 1);
  EXPECT_EQ(data["encoder"].size(), 1U);
  ASSERT_EQ(data["prompts"].size(), 2U);
  const json& asked = data["prompts"][1];
  EXPECT_EQ(asked["present"], true);
  EXPECT_EQ(asked["objects"][0]["mask"], json({6, 2}));
  EXPECT_EQ(asked["objects"][0]["cover"], "AAAAAAAAAAAAAAAAAAAAPw==");  // 0, 0, 0, 0.5
  EXPECT_EQ(asked["scores"][1], 0.5);
  EXPECT_EQ(asked["chosen"], json({0, 3, 1}));
  EXPECT_EQ(asked["words"][0]["heads"], 2);
  EXPECT_FALSE(asked["patches"][0]["weights"][1].is_null());
  const std::string page = find_page(page_data(two, {4, 2, "\x89PNG"}));
  EXPECT_NE(page.find("\"qkv/find_picture.js\""), std::string::npos);
  EXPECT_EQ(page.find("\"qkv/watch.js\""), std::string::npos);
  const std::string sentence[] = {"{}"};
  EXPECT_EQ(run_page(sentence).find("\"qkv/find.js\""), std::string::npos);
}

TEST(FindPage, TheMaskHasThePagesSize) {
  const Example example;
  const FindRun run = example.run();
  const json data = json::parse(page_data(std::span(&run, 1), {2, 1, "png"}));
  EXPECT_EQ(data["prompts"][0]["objects"][0]["mask"],
            json({2}));  // every second pixel of the first row
}

}  // namespace
}  // namespace qkv::lens
