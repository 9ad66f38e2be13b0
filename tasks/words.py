"""Plain English words for tasks that count them: nobody's list, the same everywhere."""

from __future__ import annotations

from functools import cache

from tasks import prose

_MORE = """
    ability absence academy access accident account acid acre action actress address advance advice affair afternoon
    agency agent agreement airport alarm album alcohol alley alliance almond alphabet altar ambition amount analysis
    ancestor angel anger angle animal ankle answer ant anthem anxiety apartment apology appeal appetite approval april
    arena argument arm armor army aroma article ash aspect asset athlete atom attempt attitude auction audience august
    aunt author autumn avenue average award axis baby bacon bacteria bag bakery ball balloon bamboo banana band bank
    barley barn baron base baseball basin bat bath battery battle bay beach bead beam bean bear beard beast beauty bed
    beef beer beetle beggar belief belt berry bicycle bill bin bird birth biscuit bishop bite blade blame blaze
    blessing blood blossom blouse board body bolt bomb bond bone bonus book boot border bottom boulder boundary bowl
    box boy bracelet brain branch brass bread breakfast breath breeze brick bride broom brother bubble bucket budget
    buffalo bug bulb bull bullet bundle burden bus bush business butter butterfly cabbage cabinet cable cactus cage
    cake calendar calf camel camera camp campus canal cancer canvas canyon cap capital car caravan carbon card career
    cargo carrot cart cash casino cat cattle cause cave ceiling celery cell cement census center cereal certificate
    chain chalk challenge chamber champion chance change channel chaos character charcoal charity charm chart cheek
    cheese chef chemical chest chicken chief child chimney chin chip chocolate choice choir church cinema circle
    circus citizen city claim class clay clerkship cliff climate clinic cloth cloud clover club clue coach coal coast
    coat cobweb cocktail cocoa code coffee collar college colony column comedy comet comfort command comment committee
    company concept concert concrete condition confidence conflict congress contact contest contract control cookie
    copper coral cork corn corner corridor cost costume cottonwood couch council country county couple courage course
    court cousin cow crab cradle craft crash cream creature credit creek crew cricket crime crisis critic crop cross
    crowd crystal cucumber culture cupboard cure curiosity currency current curve cushion custom cycle cylinder dairy
    dam damage dance danger data date daughter dawn day deal death debate debt decade decision deck deer defeat
    defense degree delay delivery demand democracy dentist deposit depth desert design desire dessert detail device
    dew diagram dialect diamond diary dictionary diet difference dignity dinner diploma direction dirt disaster
    discount discovery disease dish distance district ditch diver doctorate document dog doll dollar donkey dot doubt
    dough dozen draft dragon drama drawer drawing dream dress drink drop drought duck dust duty eagerness ear earth
    earthquake east echo economy edge editor education effect effort egg elbow election elephant elevator emergency
    emotion emperor empire energy enemy engineer entrance envelope environment episode equation error essay estate
    evening event evidence example exchange excuse exercise exhibit exit expert explosion export eye eyebrow fabric
    face fact factory failure fairy faith fame family fan fare farm fashion father faucet fault favor fear feast
    feature fee feeling festival fever fiction field fight figure file film filter finger fire fish fist flame flash
    flavor fleet flesh flight flood floor flour flower fluid fog folder folk food foot football force fork form
    formula fortune fossil foundation fraction frame freedom freight friend frog frontier frost fruit fuel function
    fund funeral fur furniture future galaxy gallery game gang gap garage garbage garlic gas gasoline gathering gear
    gem gene genius gesture ghost giraffe girl glacier glance glass globe glory glue goal goat gold golf gorilla
    gossip government grace grade grain grammar grandfather granite graph grass grave gravel gravity grease greeting
    grief grip grocery ground group growth guess guide guilt guitar gulf gum gun gymnast habit hail hair half hall ham
    hand handle harmony harvest hatred hay head health heap heart heat heaven heel height helicopter hen herb herd
    hero hint history hobby hole holiday honesty honey hood hook hope horizon horn horse hospital host hotel hour
    house humor hunger hurricane husband hut hydrogen ice idea identity illness image impact import impulse inch
    income increase index industry infant inflation ink inn insect inspection instance instinct institute insurance
    intention interest interview invention investment invitation iron irony issue item jail jam jaw jazz jealousy
    jelly jet job joke journal journey joy juice jump jungle junior jury justice kangaroo keyboard kidney kindness
    king kingdom kiss kitchen kitten knee knife knight knob knot knowledge label labor lace laundry lava law lawn
    lawyer layer lead leaf league leather lecture leg legend leisure lens lesson level lever liberty library license
    lid life lightning limb limit line lip liquid list liver load loan lobby location lock log logic loss lottery love
    luck luggage lumber lunch lung luxury machine magazine magic magnet maid mail major majority mammal manager manner
    mansion manual margin marriage mask mass master match material matter mayor meal meaning measure meat mechanic
    medal medicine melody member memory menu mercy message metal meter method microphone midnight milk mine mineral
    minister minute miracle misery mission mistake mixture model moment monarch money monitor monk monkey month
    monument mood moon morning mosquito moth motion motive motor mouse mouth movement movie mud muffin mule muscle
    museum mushroom music mustard mystery myth nail name napkin narrator nation nature neck nephew nerve network news
    night noise noon north nose note notebook novel number nut nutmeg oath obligation observer occasion office officer
    oil onion opera opinion option oracle orbit orchestra order organ orphan outcome oven owner oxygen oyster package
    page pain pair pajamas palm pan panel panic paper parade paradise paragraph parent park parliament part partner
    party passage passenger passion pasta patch patience patrol pattern pause pavement payment pea peace peak peanut
    pear pedal pen penalty pension people pepper percent performance perfume period permit person petal phase phone
    photo phrase physics pickle picnic picture pie piece pig pigeon pile pioneer pipe pirate pizza planet plant
    plaster plastic plate platform player plaza plot plow plug plum pocket poem point poison pole police policy
    politics pollen pool population porch port portion portrait position post potato poverty powder power practice
    prayer presence president pressure price priest prince princess principle print priority prison privilege prize
    problem process product professor profile profit program progress project promise proof property proposal protest
    province public pudding pulse pump pumpkin punch pupil puppet puppy purpose purse pyramid quality quantity quarry
    quarrel quarter queen question queue quiz race radar radio raft rail rain rainbow ranch range rat rate ratio razor
    reaction reader reality reason receipt recipe record refuge region relation relief religion remedy rent reply
    report republic request rescue research reserve resort respect response result retreat revenge review revolution
    reward rhythm rice riddle rifle ring riot risk ritual road robe robot rock rod role roof room root round route
    routine row rubber rug rule rumor sack sacrifice safety saint salad salary salmon salt sample sand sandwich
    satellite sauce sausage scale scandal scene schedule scheme school science scissors scope score screen screw
    sculpture sea season seat second section sector seed senate sense sentence sequence series sermon servant session
    shade shadow shaft shame shape share shark sheep sheet shelf shelter sheriff shield shift shirt shock shoe shop
    shore shoulder shovel shower shrimp side sign signal silence silk sin sink sister situation size skeleton skill
    skin skirt skull sky slavery sleep sleeve slice slope smell smile smoke snack snail snake snow soap soccer society
    sock soda sofa soil solution son song soul soup source south space spark speaker species speech speed spell sphere
    spice spider spinach spine spirit sponge sport spot spray spring spy square stable stadium staff stage stain stair
    stamp standard star statement station statue steak steam steel stem step stick stomach storage store storm story
    strategy straw stream street strength stress string strip studio style subject success sugar suit summer sun
    supper supply surface surprise survey suspect sweater switch symbol system tail tale talent tank tape target task
    taste tax tea team tear technique telescope temper temple tennis tent term territory test text texture theater
    theme theory thief thing thread threat throat throne thumb thunder ticket tide tie timber time tin tip tire title
    toast tobacco toe tomato tomb ton tone tongue tool tooth topic torch tornado tour tournament towel town toy trace
    track trade tradition traffic tragedy trail transfer trap trash treasure treat treaty trend trial triangle tribe
    trick trip trophy trouble truck trunk trust truth tub tube tune turkey twin twist tyrant uniform union unit
    universe university user vaccine vacuum value vanilla vapor variety vault vegetable vehicle vein venture verdict
    verse version vessel veteran victim victory video view villain vinegar virtue virus vision visitor vitamin voice
    volcano volume vote voyage wage waist waiter war warehouse warning waste watch water wave wax way wealth weapon
    weather web wedding weed week weight west whale wheat wheel whip whiskey wife wind wine wing winner winter wire
    wisdom wish witness woman wonder wood wool word work world worm worry wound wrench wrist year youth zone zoo
"""


@cache
def single() -> tuple[str, ...]:
    """About 1,850 different words in lower case, sorted."""
    return tuple(sorted({*prose.NOUNS, *prose.ADJECTIVES, *prose.VERBS, *prose.PEOPLE, *_MORE.split()}))


@cache
def joined() -> tuple[str, ...]:
    """About 28,000 pairs of nouns written as one word, sorted."""
    return tuple(sorted({first + second for first in prose.NOUNS for second in prose.NOUNS if first != second}))
