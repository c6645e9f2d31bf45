/* Classifies the lines of standard input with the C library: cc classify.c $(pkg-config --cflags --libs
 * splitee). Arguments: MODEL [OPTION...], options as splitee.h says, such as server=tcp://10.0.0.2:5555
 * or max-disagreement=0.02. install_test.py builds it as a user would; README.md shows it. */
#include <splitee.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *what) {
  fprintf(stderr, "classify: %s: %s\n", what, splitee_last_error());
  return 1;
}

int main(int argc, char **argv) {
  splitee_model *model = NULL;
  splitee_edge *edge = NULL;
  char line[65536];
  if (argc < 2) return fprintf(stderr, "usage: classify MODEL [OPTION...] < LINES\n"), 2;
  if (splitee_model_open(argv[1], NULL, &model)) return failed("model");
  if (splitee_edge_create(model, NULL, NULL, (const char *const *)argv + 2, &edge)) {
    return failed("edge");
  }
  while (fgets(line, sizeof line, stdin)) {
    splitee_input input = {sizeof input};
    splitee_record record = {sizeof record};
    input.data = line;
    input.bytes = strcspn(line, "\n");
    if (splitee_classify(edge, &input, &record)) return failed("sample");
    printf("%s %zu\n", record.label, record.exit_layer);
  }
  splitee_free(edge);
  splitee_free(model);
  return 0;
}
