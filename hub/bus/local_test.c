/* hub/bus/local_test.c - the bus of one node passes the shared suite. */
#include "hub/bus/bus_suite.h"

int main(void)
{
    return bus_suite(bus_local_new);
}
