"""A simulated streaming service whose members' tastes are planted, and therefore known.

    config      how large, how many days, how much is broken
    words       names, themes and descriptions
    service     the catalogue: taste clusters, franchises, launches
    audience    the members: mixtures of tastes that drift, habits, arrivals and departures
    exposure    the biased policy that fills a slate with titles
    behaviour   what members do with the slates of one day
    breakage    rows that break the contract, on request

`stores.lake.simulation.simulate` puts them together and writes the lake.
"""
