/* hub/bus/bus_suite.h - what every backend of the bus has to pass. */
#ifndef ROOST_HUB_BUS_BUS_SUITE_H
#define ROOST_HUB_BUS_BUS_SUITE_H

#include "hub/bus/bus.h"

/* open makes a bus of that many workers. Returns the number of failed tests. */
int bus_suite(enum err (*open)(struct bus **out, unsigned workers));

#endif
