"""The words and the sentence patterns of the demo corpus: data only; `hlas.corpus.sentences` makes sentences of them.

Words that sound like another word and words of two accepted spellings are left out where English allows it, so that an
error counted against a recogniser is an error.
"""

from collections.abc import Mapping

# Word classes. A word with a capital keeps it; `names` and the like are written as Common Voice writes them.
_WORDS = {
    "name": """Adam Alice Anna Ben Daniel David Emma Felix Frank Jack Jacob Jason Kevin Laura Linda Maria Martin Max
        Nina Nora Oliver Oscar Paul Peter Robert Rosa Ruby Sam Simon Tom Victor Walter Henry Edward Susan Amanda""",
    "kin": """mother father sister brother uncle grandmother grandfather cousin friend daughter husband nephew partner
        roommate""",
    "job": """farmer doctor teacher baker driver painter singer dancer dentist pilot captain sailor carpenter plumber
        gardener hunter student banker lawyer builder butcher actor artist writer editor manager waiter soldier guard
        officer inspector mechanic clerk merchant poet drummer shepherd postman fireman professor scientist engineer
        porter president judge trainer visitor tourist barber hiker detective reporter inventor""",
    "people": """farmers doctors teachers drivers painters singers dancers sailors students builders actors artists
        soldiers guards hunters visitors tourists children workers villagers parents""",
    "human": """old young tall happy clever gentle lazy busy tired quiet polite honest careful cheerful famous brave
        friendly patient proud nervous angry hungry lonely modest funny serious elderly smart stubborn humble""",
    "feeling": """happy tired hungry angry nervous proud lonely afraid calm confident confused disappointed excited
        grateful jealous thirsty sleepy surprised upset worried""",
    "animal": """dog cat horse cow pig goat lamb duck rabbit fox wolf tiger lion elephant camel monkey parrot eagle
        pigeon spider lizard turtle frog donkey pony puppy kitten hamster squirrel badger otter dolphin penguin zebra
        beaver mouse swan falcon sparrow beetle lobster octopus panda""",
    "animals": """dogs cats cows pigs goats ducks rabbits wolves tigers lions elephants camels monkeys parrots eagles
        pigeons spiders frogs kittens penguins dolphins swans hens bats""",
    "animal_is": "small big black brown hungry wild timid fat clever noisy clumsy curious playful silent spotted",
    "animal_did": """ran jumped slept rested waited crawled walked sat wandered rolled hopped trotted stopped vanished
        landed""",
    "place": """garden forest meadow river hill valley field bridge farm barn fence beach island desert swamp park
        village castle mill tower tunnel market station museum library hospital hotel factory bakery kitchen pantry
        office bank airport stadium temple palace cabin cottage tent classroom bedroom bathroom corridor balcony
        restaurant supermarket garage workshop laboratory cemetery lighthouse canal""",
    "place_is": "old small big quiet dark dusty empty busy narrow famous modern gloomy distant ancient sunny crowded",
    "near": "behind near beside across around inside outside past",
    "thing": """table desk lamp mirror shelf cabinet carpet curtain pillow blanket bottle basket bucket box bag cup
        kettle candle clock radio television telephone computer camera hammer ladder shovel broom brush towel sponge
        umbrella wallet pencil notebook envelope parcel suitcase magazine newspaper bell doll puzzle trumpet statue
        helmet barrel hook needle pocket knife drawer sofa bench stove window gate engine handle magnet""",
    "things": """tables lamps candles bottles baskets boxes bags cups pencils books tickets letters toys stamps coins
        bricks ropes blankets buttons baskets mirrors pictures maps ribbons helmets tools posters""",
    "thing_is": """old small big large little heavy broken empty dirty clean sharp soft round flat thick cheap simple
        strange fancy modern tiny huge narrow long damp dusty rusty shiny smooth rough solid delicate""",
    "color": "red black white green yellow brown purple orange pink silver golden blue",
    "stuff": "wooden metal plastic leather cotton paper rubber iron copper marble velvet brass",
    "did_thing": """carried dropped lifted cleaned washed painted moved opened repaired fixed packed borrowed covered
        polished pulled pushed grabbed kicked wrapped measured inspected admired examined delivered ordered returned
        ignored forgot found""",
    "do_thing": """carry drop lift clean wash paint move open repair fix pack borrow cover polish pull push grab wrap
        measure inspect examine deliver order return forget find bring keep sell""",
    "drink": "milk coffee juice lemonade water cider cocoa wine",
    "dish": """soup rice pasta chicken bacon salad pizza pudding cake bread porridge sausage sandwich lasagna
        stew pancake biscuit toast""",
    "food": """apples bananas carrots potatoes onions tomatoes lemons plums eggs beans nuts cookies pancakes mushrooms
        melons grapes noodles muffins oranges peppers olives pumpkins""",
    "flavor": "butter cheese garlic honey sugar vinegar pepper cinnamon ginger cream chocolate jam mustard ketchup",
    "taste": "hot cold fresh sweet bitter salty spicy tasty delicious awful sour crispy",
    "cooked": "cooked boiled chopped mixed served tasted peeled sliced prepared roasted burned grated",
    "cook": "cook boil chop mix serve taste peel slice prepare roast eat",
    "meal": "lunch dinner breakfast supper",
    "wear": """coat hat jacket shirt sweater scarf dress skirt belt cap helmet uniform vest ribbon bracelet necklace
        costume raincoat""",
    "vehicle": """car bus train truck boat tractor bicycle taxi wagon rocket helicopter canoe ferry tram scooter sled
        ambulance van motorcycle""",
    "road": "street highway corner avenue village bridge tunnel canyon desert crossing",
    "went": "walked ran drove hurried marched wandered jogged strolled raced rushed returned",
    "go": "walk run drive hurry march travel wander return",
    "weather": "rain snow wind storm fog frost thunder lightning sunshine",
    "weather_is": "cold warm windy rainy foggy sunny cloudy stormy wet dry icy mild humid pleasant terrible",
    "season": "winter summer autumn spring",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "January February April June July August September October November December",
    "city": """London Paris Berlin Boston Dublin Lisbon Vienna Moscow Chicago Canada Spain Poland Egypt India Japan
        Brazil Norway Finland Mexico Kenya Africa Italy Ireland Scotland Denmark Austria""",
    "manner": """slowly quickly gently carefully quietly loudly badly happily suddenly silently softly calmly eagerly
        politely gladly rapidly bravely nervously""",
    "instrument": "piano guitar violin drum trumpet flute banjo harp accordion clarinet fiddle saxophone",
    "music": "song melody concert album ballad anthem",
    "sport": "tennis football basketball hockey golf cricket baseball rugby volleyball badminton chess",
    "game_noun": "match game race final contest tournament medal trophy",
    "subject": "history physics chemistry grammar algebra biology geography Latin English Spanish German Russian",
    "matter": """plan problem answer secret story lesson promise mistake decision project report message poem novel
        contract budget result method question theory opinion rumor""",
    "matter_is": "simple difficult important useful terrible perfect strange boring interesting confusing brilliant",
    "said": "said whispered shouted promised explained admitted claimed replied repeated insisted announced",
    "hoped": "hoped believed expected remembered noticed understood doubted imagined",
    "did_person": """helped visited invited thanked followed trusted ignored joined hugged advised protected warned
        watched blamed missed respected recognized""",
    "do_person": "help visit invite thank follow trust ignore join advise protect warn watch contact forgive",
    "likes": "likes wants needs loves hates prefers enjoys",
    "hobby": """swimming dancing singing painting reading cooking fishing hunting running skiing camping hiking
        gardening knitting sailing jogging cycling shopping""",
    "plant": "tree tulip cactus orchid maple willow bush hedge lily vine cedar daisy birch",
    "plants": "roses tulips carrots beans pumpkins lilies bushes trees cabbages melons sunflowers",
    "grew": "planted watered picked trimmed sold collected admired",
    "body": "arm finger shoulder stomach ankle neck back leg elbow hand foot chin thumb",
    "illness": "fever cough headache infection cold rash toothache allergy",
    "money": "coins cash coupons credit gold diamonds",
    "shop": "bakery market supermarket pharmacy bookstore kiosk department butcher",
    "sky": "moon star cloud comet planet rainbow kite rocket balloon",
    "sky_did": "appeared vanished glowed drifted sparkled faded trembled",
    "water": "river lake pond canal ocean stream lagoon",
    "pace": "fast slow loud short long quiet sad",
    "office": "meeting budget contract printer computer salary schedule document invoice customer client",
    "work_did": "finished started delayed planned discussed accepted rejected postponed checked printed signed",
    "work_do": "finish start delay plan discuss accept reject postpone check print sign",
    "build": "house bridge cabin tower fence castle tunnel wall barn ship",
    "built": "built painted designed repaired visited destroyed",
    "room": "kitchen bedroom bathroom pantry attic garage corridor hall",
    "book": "novel poem letter story magazine report article diary dictionary recipe",
    "wrote": "wrote finished printed opened published translated burned copied",
}

# Parts of sentences. '@x' is a word class or another part; a slash joins equally likely choices.
_PHRASES = {
    "who": "the @job/the @human @job/my @kin/@name/our @job/her @kin/the @job",
    "whom": "the @job/the @human @job/my @kin/@name/his @kin/our @job",
    "it": "the @thing_is @thing/a @color @thing/the @stuff @thing/the @thing/his @thing/a @thing_is @thing/her @thing",
    "them": "the @things/some @color @things/these @things/many @thing_is @things/all the @things",
    "beast": "the @animal/a @animal_is @animal/the @animal_is @animal/our @animal",
    "where": "@near the @place/@near the @place_is @place/at the @place",
    "when": "yesterday/today/this morning/last night/on @day/in @month/last @season/after @meal/before @meal/at noon",
    "then": "tomorrow/tonight/next week/on @day/in @month/next @season/after @meal/before @meal",
    "wants": "wants to/needs to/has to/hopes to/will/can/must/should/decided to/tried to/didn't/cannot/won't",
}

# Whole sentences by topic, written the same way; one without a closing mark gets a full stop.
_TOPICS = {
    "people": """@who @did_person @whom @when/@who @did_person @whom @where/@who will @do_person @whom @then/
        why did @who @do_person @whom?/@who @wants @do_person the @people/the @people @did_person @who @when/
        @name and @name @did_person the @human @job/please @do_person the @human @people @then/
        they always @do_person the @people @where/nobody @did_person the @human @job""",
    "talk": """@who @said that the @matter was @matter_is/@who @hoped that @name was @feeling/
        @who @said something to @whom/we never heard the @matter again/did @who explain the @matter?/
        the @matter was @matter_is and @matter_is/i think this @matter is too @matter_is/
        @who told @whom a @matter_is @matter/that @matter isn't @matter_is at all/
        @name @said that the @matter was @matter_is/what a @matter_is @matter!/what do you think about the @matter?""",
    "feelings": """@who was very @feeling @when/@who looked @feeling and @feeling/are you @feeling or just @feeling?/
        the @people were @feeling after the @matter/i am not @feeling, only @feeling/
        @name felt @feeling because the @thing was @thing_is/why is @who so @feeling today?""",
    "things": """@who @did_thing @it @when/@who @did_thing @them/@who @wants @do_thing @it/did you @do_thing @it?/
        @who @did_thing @it @manner/please @do_thing the @thing and the @thing/the @stuff @thing is @where/
        @who left @it @where/there was @it in the @room/we have to @do_thing @them @then/
        @it fell from the @stuff @thing/someone @did_thing my @color @thing/where is my @thing_is @thing?/
        this @thing is too @thing_is for @whom/don't @do_thing the @thing_is @things""",
    "animals": """@beast @animal_did @where/the @animals @animal_did @manner @where/@beast @animal_did over the @thing/
        @who saw @beast @where/the @animal_is @animal and the @animal @animal_did/@who feeds the @animals @then/
        many @animals live @where/@name has a @animal and a @animal_is @animal/the @animal is afraid of the @animals/
        @beast followed @whom @where/do @animals eat @food?/a @animal can run faster than a @animal""",
    "food": """@who @cooked the @food with @flavor/@who ate @taste @dish for @meal/the @dish was too @taste @when/
        please @cook the @food @manner/@who drank @taste @drink with @flavor/would you like some @taste @drink?/
        @who @cooked @food and @food @when/we need @flavor, @food and @drink/let's @cook the @dish @then/
        the @taste @dish is for @whom/@name bought @drink and @food at the @shop/who wants @dish with @flavor?/
        @who cannot @cook the @dish without @flavor""",
    "clothes": """@who wore a @color @wear @when/this @color @wear belongs to @whom/@who lost the @stuff @wear/
        @who has a @wear and a @color @wear/put the @wear in the @stuff @thing/my @wear is @thing_is and @color/
        @name bought a @thing_is @wear in @city""",
    "travel": """@who @went across the @road @manner/@who @went to the @place @when/the @vehicle stopped at the @place/
        the @color @vehicle was late @when/we will travel to @city @then/@who flew from @city to @city/
        the @vehicle to @city leaves on @day/@who @wants @go to the @place @then/is there a @vehicle to the @place?/
        a @thing_is @vehicle blocked the @road/@who took the @vehicle from @city/
        they @went @manner along the @water/how far is the @place from the @place?""",
    "weather": """it was @weather_is and @weather_is @when/the @weather was bad @when/the @weather stopped @when/
        @city is @weather_is in @month/the @weather_is @season surprised the @people/
        because of the @weather we stayed in the @room/it will be @weather_is in @city @then/
        the @weather damaged the @place_is @place/after the @weather the @sky @sky_did/
        the @sky @sky_did over the @water""",
    "music": """@who plays the @instrument @manner/@who sold the @thing_is @instrument @when/
        the @music was @matter_is and too @pace/can @who play the @instrument?/@name sang a @matter_is @music for @whom/
        the @instrument and the @instrument sounded @matter_is/we heard a @music @where""",
    "sport": """@who @likes @sport and @hobby/@who won the @sport @game_noun @when/the @game_noun was @matter_is @when/
        do you play @sport @then?/@name lost the @game_noun against @name/the @people played @sport @where/
        @who will watch the @sport @game_noun @then/@hobby is @matter_is, but @sport is better""",
    "hobby": """@who @likes @hobby @where/my @kin @likes @hobby in @season/@hobby makes @name @feeling/
        @who never liked @hobby or @hobby/they went @hobby near @city/is @hobby @matter_is for @people?""",
    "school": """@who teaches @subject at @city college/@name studied @subject and @subject/
        the @subject lesson was @matter_is @when/@who failed the @subject test/
        the @human student forgot the @subject book/
        do you understand @subject and @subject?/the @job explained the @matter in @subject""",
    "garden": """@who @grew the @plants @when/a @thing_is @plant grows @where/the @color @plant needs water/
        @who @grew @plants and @plants/the @plant is taller than the @plant/don't cut the @plant @where/
        the @plants in the @place are @color""",
    "health": """@who broke a @body @when/my @body hurts after @hobby/@who has a @illness and a @illness/
        the @job looked at the @body of @whom/@name had a @illness last @season/does your @body still hurt?/
        a @illness can be a terrible problem""",
    "work": """@who @work_did the @office @when/the @office was @work_did on @day/we must @work_do the @office @then/
        @who @wants @work_do the @office/can you @work_do the @office before @day?/the @human @job lost the @office/
        @name @work_did the @office and the @office""",
    "town": """@who @built a @thing_is @build @where/the @build near the @water was @built @when/
        @who paid for the @thing with @money/the @shop in @city is closed @when/the @shop sells @things and @food/
        @who lives in a @thing_is @build near @city/does the @shop accept @money?""",
    "reading": """@who @wrote a @matter_is @book @when/this @book is about @animals and @people/
        @name @wrote the @book in @subject/have you read the @matter_is @book?/the @book about @city was @matter_is/
        @who gave the @book to @whom""",
    "night": """the @sky @sky_did above the @place/a @color @sky @sky_did @when/@who saw a @sky over @city/
        the @sky was @color and the @water @color/at night the @place is @place_is""",
    "home": """@who sleeps in the @place_is @room/the @room is @place_is and the @room @place_is/
        @who cleaned the @room and the @room/there is a @animal in the @room!/@name hid the @things in the @room/
        the @room smells of @flavor and @food""",
}


def _choices(pattern: str) -> tuple[str, ...]:
    return tuple(" ".join(choice.split()) for choice in pattern.split("/"))


CLASSES: Mapping[str, tuple[str, ...]] = {name: tuple(dict.fromkeys(text.split())) for name, text in _WORDS.items()}
PHRASES: Mapping[str, tuple[str, ...]] = {name: _choices(text) for name, text in _PHRASES.items()}
TOPICS: Mapping[str, tuple[str, ...]] = {name: _choices(text) for name, text in _TOPICS.items()}

# What a text rule has to cope with: digits, letters of other languages, typographic marks.
ODD_SENTENCES = (
    "The ferry leaves the island at 7 in the morning.",
    "We met the poet at the café near the museum.",
    "“Come in,” whispered the old fisherman.",
    "The painter isn’t at home today.",
    "Room 12 is at the end of the corridor.",
    "My cousin José plays the accordion.",
    "The hotel in Kraków has 25 rooms…",
    "Anna lost her ticket — again!",
)
