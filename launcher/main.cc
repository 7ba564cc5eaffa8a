#include "launcher/command.h"

int main(int argc, char** argv) { return trireme::Main(argc, argv); }
